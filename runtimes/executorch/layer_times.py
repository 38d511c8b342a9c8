"""A profile by ExecuTorch as the layers that `edgevlm profile --ops` shows.

What a delegate does round its kernels (threads woken, tensors handed over) is a layer of its own,
so that layers add up to what ops and delegates took. Where a delegate counts cycles only, its call
is shared out by them: an estimate, and labelled as one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from edgevlm.compiler.contract import Role
from edgevlm.runtimes.base import LayerTime
from edgevlm.runtimes.executorch.kernels import split_kernel
from edgevlm.runtimes.executorch.profile_rows import At, EtProfile, MethodProfile, Row
from edgevlm.runtimes.executorch.qnn.names import op_of
from edgevlm.runtimes.executorch.qnn.rows import BY_CYCLES, CycleLayer

__all__ = ["layer_times"]

#: id of a delegate -> what runs it; others go by their id
UNITS = {
    "XnnpackBackend": "XNNPACK",
    "QnnBackend": "HTP",
    "VulkanBackend": "Vulkan",
    "CoreMLBackend": "Core ML",
    "EthosUBackend": "Ethos-U",
}
OWN = "ExecuTorch"
#: names of XNNPACK as those of ops that a report sorts into families
WORDS = {
    "Fully Connected": "FullyConnected",
    "Dynamic Fully Connected": "FullyConnected",
    "Batch Matrix Multiply": "MatMul",
    "Convolution": "Conv",
    "Static Reshape": "Reshape",
    "Constant Pad": "Pad",
    "Square Root": "Sqrt",
    "Reciprocal Square Root": "Rsqrt",
    "Scaled Dot-Product Attention": "Attention",
}


def layer_times(
    profile: EtProfile, how: str, roles: Mapping[str, Role] | None = None
) -> list[LayerTime]:
    """In the order in which they run. roles: of methods whose name is none.

    how: measured-host or measured-device.
    """
    found: list[LayerTime] = []
    for method in profile.methods:
        role = (roles or {}).get(method.name, method.name)
        inside: dict[At, list[Row]] = defaultdict(list)
        for row in method.rows:
            if row.kind == "inside":
                inside[row.at].append(row)
        for row in _calls(method):
            if row.kind == "operator":
                node = ", ".join(row.nodes) or f"instruction {row.at[1]}"
                op = row.event.partition(".")[0]  # without its overload
                found.append(LayerTime(role, node, op, OWN, row.spread.mean, how))
            else:
                found += _delegated(role, row, inside[row.at], how)
    return found


def _calls(method: MethodProfile) -> list[Row]:
    return sorted(
        (row for row in method.rows if row.kind in ("operator", "delegate")), key=lambda r: r.at
    )


def _delegated(role: Role, call: Row, inside: Sequence[Row], how: str) -> list[LayerTime]:
    unit = UNITS.get(call.backend or "", call.backend)
    where = f"instruction {call.at[1]}"
    cycles = [row for row in inside if row.unit == "cycles"]
    if cycles:
        total = sum(row.spread.mean for row in cycles) or 1.0
        return [
            CycleLayer(
                role,
                _qnn_node(row),
                "qnn op",
                unit,
                call.spread.mean * row.spread.mean / total,
                BY_CYCLES,
                round(row.spread.mean),
            )
            for row in cycles
        ]
    spent = [row for row in inside if row.unit == "ms"]
    layers = [
        LayerTime(
            role,
            ", ".join(row.nodes) or f"{where}, {row.event}",
            _op(row.event),
            unit,
            row.spread.mean,
            how,
        )
        for row in spent
    ]
    rest = max(0.0, call.spread.mean - sum(row.spread.mean for row in spent))
    node = f"{where}, round its kernels" if spent else ", ".join(call.nodes) or where
    return [*layers, LayerTime(role, node, f"{call.backend} call", unit, rest, how)]


def _qnn_node(row: Row) -> str:
    op = op_of(row.event)
    return f"{op.name}:{op.id}" if op else row.event


def _op(event: str) -> str:
    """FullyConnected (QDU8, F32, QB4W)."""
    kind, types, _ = split_kernel(event)
    word = WORDS.get(kind, kind)
    return f"{word} ({', '.join(types)})" if types else word
