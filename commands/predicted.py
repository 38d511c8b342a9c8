"""Times of the parts of a model by the roofline, a layer each, and what follows from them.

    prefill = embed + prefill      decode = embed + decode, one token with full caches

as the loop of compiler/generate.py runs them. Preprocessing is no graph and is not predicted, so
that fps and the time to the first token are those behind it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.layers import Layer, layers_of
from edgevlm.devices.roofline import Bound, Rates, kernel_time

__all__ = [
    "STAGES",
    "LayerTime",
    "figures",
    "products",
    "put_estimates",
    "stages_of",
    "time_layers",
]

#: stage of devices/profiler.py -> parts that run in it
STAGES: dict[str, tuple[Role, ...]] = {
    "vision": ("vision",),
    "connector": ("connector",),
    "prefill": ("embed", "prefill"),
    "decode": ("embed", "decode"),
}


@dataclass(frozen=True)
class LayerTime:
    """One kernel of a part; `seconds` is None where nothing of it is known."""

    role: Role
    layer: Layer
    moved: int  # bytes
    seconds: float | None
    bound: Bound | None

    def as_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "node": self.layer.node,
            "op": self.layer.op,
            "fused": list(self.layer.fused),
            "macs": self.layer.macs,
            "bytes": self.moved,
            "dtype": self.layer.dtype,
            "bound": self.bound,
            "ms": None if self.seconds is None else self.seconds * 1e3,
            "how": "predicted",
        }


def time_layers(
    parts: Mapping[Role, ir.Model], rates: Callable[[Role], Rates], *, folds: bool
) -> list[LayerTime]:
    """Every kernel of every part, in order. folds: as compiler/layers.py says."""
    found = []
    for role, part in parts.items():
        of = rates(role)
        for layer in layers_of(part, folds=folds):
            moved = layer.moved.bytes(of.width)
            found.append(
                LayerTime(role, layer, moved, *kernel_time(layer.macs, layer.dtype, moved, of))
            )
    return found


def products(parts: Mapping[Role, ir.Model]) -> dict[str, int]:
    """Multiply-accumulates by the dtype of the product, over all parts."""
    found: Counter[str] = Counter()
    for part in parts.values():
        for layer in layers_of(part, folds=False):
            found[layer.dtype] += layer.macs
    return dict(found)


def stages_of(times: list[LayerTime]) -> dict[str, dict[str, Any]]:
    """ms of each stage, what most of it goes into, and the work; ms is None where none is known."""
    by_role: dict[Role, list[LayerTime]] = defaultdict(list)
    for each in times:
        by_role[each.role].append(each)
    found = {}
    for stage, roles in STAGES.items():
        rows = [each for role in roles for each in by_role[role]]
        known = [each for each in rows if each.seconds is not None]
        if not rows:
            continue
        spent: Counter[Bound] = Counter()
        for each in known:
            spent[each.bound] += each.seconds
        found[stage] = {
            "ms": sum(each.seconds for each in known) * 1e3 if known else None,
            "bound": max(spent, key=spent.__getitem__) if known else None,
            "kernels": len(rows),
            "macs": sum(each.layer.macs for each in rows),
            "bytes": sum(each.moved for each in rows),
            "how": "predicted",
        }
    return found


def put_estimates(stages: Mapping[str, dict[str, Any]], parts: Sequence[Mapping[str, Any]]) -> None:
    """Times of the device's own compiler in place of the roofline's, which knows less.

    parts: `role`, `ms` and `how` of every piece. A stage of which it told nothing has no time: the
    host runs it.
    """
    for name, stage in stages.items():
        rows = [part for part in parts if part["role"] in STAGES[name]]
        stage["ms"] = sum(row["ms"] for row in rows) if rows else None
        stage["bound"] = None
        stage["how"] = rows[0]["how"] if rows else "predicted"


def figures(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """fps, ttft_ms and tokens_per_s as devices/profiler.py defines them, preprocessing left out."""

    def total(*names: str) -> float | None:
        each = [stages[name]["ms"] for name in names if name in stages]
        return None if None in each else sum(each)

    image = total("vision", "connector")
    decode = total("decode") if "decode" in stages else None
    return {
        "fps": 1e3 / image if image else None,
        "ttft_ms": total("vision", "connector", "prefill") if "prefill" in stages else None,
        "tokens_per_s": 1e3 / decode if decode else None,
    }
