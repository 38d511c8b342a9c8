"""Whether a model fits in the memory of a device, with both numbers and how they are known.

A model needs between `least` and `most` bytes (compiler/memory.py), so there are three verdicts:
it fits, it fits only if its runtime does better than it must, it surely does not fit. A pool of
contiguous memory that a board starts with limits the largest single tensor in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from edgevlm.devices.facts import THIS_MACHINE
from edgevlm.devices.host import describe_host
from edgevlm.devices.schema import Device

if TYPE_CHECKING:  # which loads onnx; a device file alone does not
    from edgevlm.compiler.memory import Need

__all__ = ["DOES_NOT_FIT", "FITS", "FITS_IF", "mb", "memory_verdict", "on_chip_bytes"]

Verdict = Literal["fits", "fits only if", "does not fit"]
FITS, FITS_IF, DOES_NOT_FIT = "fits", "fits only if", "does not fit"
GB, MIB, KIB = 10**9, 2**20, 2**10
BRAM_BYTES, URAM_BYTES = 36 * KIB // 8, 288 * KIB // 8  # of a block of 36 kbit, of 288 kbit
ON_CHIP = ("npu", "fabric", "aie")  # kinds of units that run from a memory of their own


def memory_verdict(device: Device, need: Need) -> dict[str, Any]:
    """The `memory` object of compile and profile. For the machine this runs on, its own RAM."""
    limit = _limit(device)
    scratch = device.memory.scratch
    more = round(scratch.value * GB) if scratch else 0
    least, most = need.total.least + more, need.total.most + more
    conditions: list[str] = []
    refused: list[str] = []
    if limit and least > limit["bytes"]:
        refused.append(f"it takes at least {mb(least)}, and there are {mb(limit['bytes'])}")
    elif limit and most > limit["bytes"]:
        shared = "share their weights and " if need.weights.least < need.weights.most else ""
        conditions.append(
            f"its parts {shared}give activations back: it takes {mb(least)} to {mb(most)}, and "
            f"there are {mb(limit['bytes'])}"
        )
    pools = _pools(device)
    piece = f"{mb(need.largest)} in one piece ({need.largest_name})"
    for i, pool in enumerate(pools):
        if need.largest > pool["bytes"]:
            if i == len(pools) - 1:
                refused.append(f"it takes {piece}, more than {pool['text']}")
            else:
                conditions.append(f"there are {piece}, more than {pool['text']}")
    verdict = DOES_NOT_FIT if refused else FITS_IF if conditions else FITS if limit else None
    found = {
        "verdict": verdict,
        "why": refused or conditions,
        "least_bytes": least,
        "most_bytes": most,
        "weights": vars(need.weights),
        "kv_bytes": need.kv,
        "activations": vars(need.activations),
        "scratch_bytes": more,
        "largest": {"tensor": need.largest_name, "bytes": need.largest},
        "limit": limit,
        "contiguous": pools,
        "on_chip": _on_chip(device, need),
        "how": "predicted",
    }
    return {**found, "text": _text(found)}


def mb(count: float) -> str:
    """Bytes as people read them; 1e6 and 1e9."""
    return f"{count / 1e9:.2f} GB" if count >= 0.9995e9 else f"{count / 1e6:.2f} MB"


def on_chip_bytes(device: Device) -> int | None:
    """Of the unit that models are lowered to, where it runs from a memory of its own."""
    unit = device.units[0] if device.units else None
    if unit is None or unit.kind not in ON_CHIP:
        return None
    if device.fabric:
        blocks = device.fabric.bram36.value * BRAM_BYTES
        return round(blocks + (device.fabric.uram.value if device.fabric.uram else 0) * URAM_BYTES)
    sram = unit.sram or device.memory.sram
    return round(sram.value * KIB) if sram else None


def _limit(device: Device) -> dict[str, Any] | None:
    """What there is for a model: DRAM less what the system is known to keep."""
    if device.host:
        ram = describe_host().ram_gib
        if ram is None:
            return None
        return _claim(round(ram * 2**30), 0, THIS_MACHINE, None, "RAM of this machine")
    dram, system = device.memory.dram, device.memory.system
    if dram is None:
        return None
    kept = round(system.value * GB) if system else 0
    sure = max(fact.confidence for fact in (dram, system) if fact)
    return _claim(round(dram.value * GB) - kept, kept, dram.source, sure, dram.note)


def _claim(
    free: int, kept: int, source: str, confidence: str | None, note: str | None
) -> dict[str, Any]:
    return {
        "bytes": free,
        "system_bytes": kept,
        "source": source,
        "confidence": confidence,
        "note": note,
    }


def _pools(device: Device) -> list[dict[str, Any]]:
    """Limits of the largest tensor, the smallest first."""
    found = [trap for trap in device.traps.values() if trap.limits == "contiguous"]
    return [
        {
            "bytes": round(trap.value * MIB),
            "text": f"{trap.text} ({trap.value:g} {trap.unit})",
            "source": trap.source,
            "confidence": trap.confidence,
        }
        for trap in sorted(found, key=lambda trap: trap.value or 0)
    ]


def _on_chip(device: Device, need: Need) -> dict[str, Any] | None:
    there = on_chip_bytes(device)
    if there is None:
        return None
    sizes = {"weights": need.weights.least, "activations": need.activations.least}
    sizes |= {"KV caches": need.kv} if need.kv else {}
    beyond = [name for name, size in sizes.items() if size > there]
    if not beyond and need.total.least > there:
        beyond = ["weights, activations and caches together"]
    return {"bytes": there, "exceeded_by": beyond}


def _text(found: dict[str, Any]) -> str:
    limit, verdict = found["limit"], found["verdict"]
    caches = f"KV {mb(found['kv_bytes'])}, " if found["kv_bytes"] else ""
    parts = [
        f"weights {mb(found['weights']['most'])}, {caches}"
        f"activations {mb(found['activations']['most'])}"
    ]
    if limit is None:
        said = f"needs up to {mb(found['most_bytes'])}; how much there is is not published"
    elif verdict == FITS:
        said = f"fits with {mb(found['most_bytes'])} of {mb(limit['bytes'])}"
    else:
        said = f"{verdict}{' ' if verdict == FITS_IF else ': '}{'; '.join(found['why'])}"
    if limit and limit["confidence"] == "C":
        parts.append("its memory is not verified (C)")
    if limit and not limit["system_bytes"]:
        parts.append("nothing taken off for its system")
    if chip := found["on_chip"]:
        beyond = " and ".join(chip["exceeded_by"])
        of = f"too little for its {beyond}" if beyond else "enough for all of it"
        parts.append(f"{mb(chip['bytes'])} are on the chip, {of}")
    return f"{said} ({'; '.join(parts)})"
