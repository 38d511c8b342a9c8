"""Joules of a Mac: `sudo powermetrics --samplers cpu_power,gpu_power,ane_power -i 200 -f plist`.

It prints one property list a sample, a NUL in front of each but the first. What counts of one:

    elapsed_ns                 length of the sample
    processor.cpu_energy       mJ in that time; likewise gpu_energy and ane_energy

These are estimates that macOS makes, of the whole machine and not of one process, and DRAM, screen
and supply are not in them: the tool's manual says so.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

__all__ = ["Sample", "parse_samples"]

UNITS = ("cpu", "gpu", "ane")
MOST_BYTES = 64 << 20
BROKEN = (plistlib.InvalidFileException, ExpatError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Sample:
    """A length of time, and joules of CPU, GPU and Neural Engine ("ane") where they are told."""

    seconds: float
    joules: Mapping[str, float]

    @property
    def watts(self) -> float:
        return sum(self.joules.values()) / self.seconds


def parse_samples(data: bytes) -> Sequence[Sample]:
    """In the order of time. Raises ValueError for other data."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MiB of samples")
    found = [_sample(part) for part in data.split(b"\0") if part.strip()]
    if not found:
        raise ValueError("powermetrics printed no sample")
    return found


def _sample(part: bytes) -> Sample:
    try:
        told = plistlib.loads(part.strip(), fmt=plistlib.FMT_XML)
        processor, seconds = told["processor"], int(told["elapsed_ns"]) / 1e9
        spent = {unit: processor.get(f"{unit}_energy") for unit in UNITS}
        joules = {unit: float(mj) / 1e3 for unit, mj in spent.items() if mj is not None}
    except BROKEN as error:
        raise ValueError(f"no sample of powermetrics ({type(error).__name__})") from None
    if seconds <= 0 or not joules:
        raise ValueError("a sample of powermetrics without length, or without an energy")
    return Sample(seconds, joules)
