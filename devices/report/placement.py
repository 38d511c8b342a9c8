"""Which unit ran each op, against the unit that models are lowered to on this device.

A runtime names a unit in its own word. What an op is asked to do and where it is done are two
things: an op that fell back to another unit is the first thing to know about a slow model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from edgevlm.devices.report.measured import Layer
from edgevlm.devices.report.words import figure, percent, plural, short

__all__ = ["UNITS", "elsewhere", "kind_of", "placement_view"]

#: a runtime's word for a unit -> the kind that a device file has
UNITS = {
    "cpu": "cpu", "cpuexecutionprovider": "cpu", "xnnpackexecutionprovider": "cpu",
    "gpu": "gpu", "cudaexecutionprovider": "gpu", "tensorrtexecutionprovider": "gpu",
    "nvtensorrtrtxexecutionprovider": "gpu",
    "dla": "dla", "npu": "npu", "ane": "npu", "neuralengine": "npu", "ethos-u": "npu",
    "qnnexecutionprovider": "npu", "aie": "aie", "fabric": "fabric",
    "xnnpack": "cpu", "executorch": "cpu", "vulkan": "gpu", "htp": "npu",
}  # fmt: skip
VERDICTS = ("no", "cannot be told", "yes")  # what is amiss comes first
SHOWN = 40  # ops that ran elsewhere


def kind_of(unit: str | None) -> str | None:
    """None where it is not said, or not known what is meant; "GPU.0" is a GPU."""
    word = (unit or "").lower().replace(" ", "")
    return UNITS.get(word) or UNITS.get(word.partition(".")[0].partition(":")[0])


def elsewhere(layers: Sequence[Layer], expected: str | None) -> list[Layer]:
    """Those that surely ran on another unit than the expected one."""
    return [r for r in layers if expected and kind_of(r.unit) not in (expected, None)]


def placement_view(layers: Sequence[Layer], expected: str | None) -> dict[str, Any] | None:
    """For the template: a sentence, what ran elsewhere first, then a row a unit."""
    if not layers:
        return None
    total = sum(row.ms for row in layers) or 1.0
    units: dict[str, list[Layer]] = defaultdict(list)
    for row in layers:
        units[row.unit or "not said"].append(row)
    away = elsewhere(layers, expected)
    unknown = [r for r in layers if kind_of(r.unit) is None]
    return {
        "expected": (expected or "not said").upper() if expected else "not said",
        "elsewhere": _rows(away, total),
        "more": max(0, len(_groups(away)) - SHOWN),
        "wrong": len(away),
        "sentence": _sentence(len(layers), away, unknown, expected, total),
        "units": [
            {"unit": unit, "kind": (kind_of(unit) or "unknown").upper(),
             "as_expected": _verdict(kind_of(unit), expected), "nodes": len(rows),
             "ms": figure(_ms(rows)), "share": percent(_ms(rows) / total)}
            for unit, rows in sorted(
                units.items(), key=lambda u: VERDICTS.index(_verdict(kind_of(u[0]), expected))
            )
        ],
    }  # fmt: skip


def _ms(rows: Sequence[Layer]) -> float:
    return sum(row.ms for row in rows)


def _verdict(kind: str | None, expected: str | None) -> str:
    if kind is None or expected is None:
        return "cannot be told"
    return "yes" if kind == expected else "no"


def _sentence(
    n: int, away: list[Layer], unknown: list[Layer], expected: str | None, total: float
) -> str:
    if expected is None:
        return "The device file names no unit, so nothing is expected of any."
    unit, nodes = expected.upper(), plural(n, "node")
    if away:
        share = percent(_ms(away) / total)
        return f"{len(away)} of {nodes} ran elsewhere than on the {unit}: {share} % of the time."
    if unknown:
        return f"Of {len(unknown)} of {nodes} the runtime does not say which unit ran them."
    return f"All {nodes} ran on the {unit}, as expected."


def _groups(rows: Sequence[Layer]) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        found[row.role, row.op, row.unit or "not said"] += row.ms
    return found


def _rows(rows: Sequence[Layer], total: float) -> list[dict[str, Any]]:
    nodes = defaultdict(list)
    for row in rows:
        nodes[row.role, row.op, row.unit or "not said"].append(row.node)
    return [
        {"role": role, "op": op, "unit": unit, "nodes": len(nodes[role, op, unit]),
         "first": short(nodes[role, op, unit][0], 60), "ms": figure(ms),
         "share": percent(ms / total)}
        for (role, op, unit), ms in _groups(rows).most_common(SHOWN)
    ]  # fmt: skip
