"""What the first unit of a device does a second, as far as its file says: for the roofline.

A dtype whose rate nobody published goes at that of the next wider one. Where no rate is published
at all, the time that somebody measured of a known model stands in, as an effective rate; where
there is none either, the fastest rate of the unit bounds the time from below. Nothing is made up:
every step is told in the notes, and the confidence of each fact goes along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgevlm.devices.roofline import Rates, Used
from edgevlm.devices.schema import Device, Fact

__all__ = ["float_width", "rates_of"]

#: runtimes that compute a float graph in float; others run it in half precision where a unit does
KEEPS_FLOAT = ("ort", "openvino")
WIDE, HALF = ("fp32", "tf32"), ("fp16", "bf16")
WIDTHS = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int16": 2, "int8": 1}  # bytes of a number


@dataclass(frozen=True)
class _Found:
    """A rate for products of one dtype, in operations a second, and where it is from."""

    rate: float | None = None
    dtype: str | None = None  # that it is the rate of
    fact: Used | None = None
    note: str | None = None
    exact: bool = True  # not merely a bound


def rates_of(device: Device, macs: Mapping[str, int]) -> Rates:
    """Of the unit that models are lowered to. macs: how many products of which dtype there are."""
    unit, bandwidth = device.units[0], device.memory.bandwidth
    found = {
        dtype: _rate(device, dtype, f"{_name(dtype)} products ({n / sum(macs.values()):.0%})")
        for dtype, n in sorted(macs.items(), key=lambda row: -row[1])
        if n
    }
    used = [each.fact for each in found.values() if each.fact]
    notes = [each.note for each in found.values() if each.note]
    if bandwidth:
        used.append(_used("bandwidth", bandwidth))
    else:
        notes.append("no bandwidth is published: what waiting for memory takes is left out")
    if unit.launch:
        used.append(_used("launch latency", unit.launch))
    else:
        notes.append("launch latency unknown: 0")
    floats = found.get("fp32", _Found(exact=False))
    return Rates(
        ops={dtype: each.rate for dtype, each in found.items()},
        bandwidth=bandwidth.value * 1e9 if bandwidth else None,
        launch=unit.launch.value / 1e6 if unit.launch else 0.0,
        width=WIDTHS[floats.dtype] if floats.exact else float_width(device),
        used=tuple(dict.fromkeys(used)),
        notes=tuple(notes),
        partial=not (bandwidth and unit.launch and all(f.exact for f in found.values())),
    )


def float_width(device: Device) -> int:
    """Bytes that a float of the graph takes at least on the unit that models are lowered to."""
    taken = device.units[0].dtypes if device.units else {}
    wanted = WIDE if device.runtime in KEEPS_FLOAT else (*HALF, *WIDE, "int8")
    return next((WIDTHS[dtype] for dtype in wanted if dtype in taken), 4)


def _rate(device: Device, dtype: str, said: str) -> _Found:
    unit, ladder = device.units[0], _ladder(device, dtype)
    known = {name: rate.dense for name, rate in unit.dtypes.items() if rate.dense}
    for name in ladder:
        if name in known:
            fact = _used(f"{name} rate of {unit.name}", known[name])
            note = f"{said} at the rate of {name}: none is published for {dtype}"
            return _Found(known[name].value * 1e12, name, fact, note if name != dtype else None)
    for name in ladder:
        timed = [each for each in device.published if each.dtype == name]
        if timed:
            best = min(timed, key=lambda each: each.value)
            how = f"{best.what} in {best.value:g} ms through {best.runtime}"
            sure = "C" if best.confidence == "C" else "B"  # derived
            what = f"effective {name} rate of {unit.name}"
            fact = Used(what, best.rate / 1e12, "Top/s", sure, best.source, f"derived: {how}")
            note = f"{said} at the effective rate of {how}: no peak is published"
            return _Found(best.rate, name, fact, note)
    if known:
        name = max(known, key=lambda each: known[each].value)
        fact = _used(f"{name} rate of {unit.name}", known[name])
        floats = any(f in unit.dtypes for f in (*WIDE, *HALF))
        why = "their rate is not published" if floats else f"{unit.name} computes no floats"
        note = f"{said} are counted at the rate of {name}, so at least so long: {why}"
        return _Found(known[name].value * 1e12, name, fact, note, exact=False)
    return _Found(note=f"no rate is published: computing {said} is left out", exact=False)


def _ladder(device: Device, dtype: str) -> tuple[str, ...]:
    """dtypes to look for, the wanted one first, then wider ones; a float graph may run in half."""
    halves = () if device.runtime in KEEPS_FLOAT else HALF
    return {
        "fp32": (*WIDE, *halves),
        "fp16": (*HALF, *WIDE),
        "int8": ("int8", "int16", *HALF, *WIDE),
        "fp8": ("fp8", *HALF, *WIDE),
    }[dtype]


def _name(dtype: str) -> str:
    return "float" if dtype == "fp32" else dtype


def _used(what: str, fact: Fact) -> Used:
    return Used(what, fact.value, str(fact.unit), fact.confidence, fact.source, fact.note)
