"""What Vela says of a network: its summary and its layers, read from the CSV files that it writes.

Cycles are Vela's own estimate ("internal compiler estimates ... run on an FVP Model or FPGA"), so
everything here is `estimated-vela`. Columns: ethos-u-vela 5.1, stats_writer.py
(https://gitlab.arm.com/artificial-intelligence/ethos-u/ethos-u-vela).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import JobFault

__all__ = ["HOW", "VelaLayer", "VelaSummary", "read_layers", "read_summary", "whole_time_ms"]

HOW = "estimated-vela"
_MOST_BYTES = 32 * 2**20
_MOST_ROWS, _MOST_TEXT = 200_000, 300
_MOST_NUMBER = 1e15
_KIB = 1024


@dataclass(frozen=True)
class VelaSummary:
    """One delegate, one inference. `cycles`: total, and what each unit alone would take."""

    accelerator: str  # Ethos_U85_256
    system_config: str
    memory_mode: str
    clock_hz: float
    ms: float
    cycles: dict[str, int]  # total, npu, sram_access, dram_access, on_chip_flash_access, ...
    macs: int
    memory_bytes: dict[str, int]  # used of sram, dram, on_chip_flash, off_chip_flash
    traffic_bytes: dict[str, int]  # read and written an inference, by the same names
    how: str = HOW


@dataclass(frozen=True)
class VelaLayer:
    """One step of the schedule, in order; several may come of one op of the TOSA graph."""

    name: str  # of the TOSA tensor that it makes, or Vela's own
    op: str  # as Vela runs it: Conv2D, MatMul, ReduceMax, Transpose...
    of: str  # op of the TOSA graph that it was made for
    unit: str  # NPU or CPU
    cycles: int  # the longest of its units; they add up to the summary's total
    ms: float
    macs: int
    macs_used_percent: float  # of what the array could have done in that time
    staging_bytes: int  # of the staging memory (SRAM) while it runs
    how: str = HOW


_AREAS = ("sram", "dram", "on_chip_flash", "off_chip_flash")
_CYCLES = ("total", "npu", *(f"{area}_access" for area in _AREAS))


def read_summary(path: Path) -> VelaSummary:
    """`out_summary_<system config>.csv`. Raises EV374 for a file that is broken or is none."""
    rows = list(_rows(path))
    if len(rows) != 1:
        raise _broken(path, f"it has {len(rows)} rows, and one is expected")
    row = rows[0]
    seconds, clock = row.number("inference_time"), row.number("core_clock")
    if not clock:
        raise _broken(path, "its clock is 0 Hz")
    return VelaSummary(
        accelerator=row.text("accelerator_configuration"),
        system_config=row.text("system_config"),
        memory_mode=row.text("memory_mode"),
        clock_hz=clock,
        ms=seconds * 1e3,
        cycles={name: row.whole(f"cycles_{name}") for name in _CYCLES},
        macs=row.whole("nn_macs"),
        # Vela writes KiB here
        memory_bytes={area: round(row.number(f"{area}_memory_used") * _KIB) for area in _AREAS},
        traffic_bytes={area: row.whole(f"{area}_total_bytes") for area in _AREAS},
    )


def read_layers(path: Path, clock_hz: float) -> list[VelaLayer]:
    """`out_per-layer.csv`, in the order of the schedule. Raises EV374."""
    return [
        VelaLayer(
            name=row.text("Name"),
            op=row.text("NNG Operator"),
            of=row.text("Original Operator"),
            unit=row.text("Target"),
            cycles=(cycles := row.whole("Op Cycles")),
            ms=cycles / clock_hz * 1e3,
            macs=row.whole("MAC Count"),
            macs_used_percent=row.number("Util% (MAC)"),
            staging_bytes=row.whole("Staging Usage"),
        )
        for row in _rows(path)
    ]


def whole_time_ms(summaries: Iterable[VelaSummary]) -> float:
    """Of a part with several delegates, one after the other; without the CPU's work between."""
    return sum(summary.ms for summary in summaries)


class _Row:
    """Cells by the name of their column; a complaint names file, line and column."""

    def __init__(self, path: Path, line: int, cells: dict[str, str]) -> None:
        self._path, self._line, self._cells = path, line, cells

    def text(self, column: str) -> str:
        if column not in self._cells:
            raise _broken(self._path, f"it has no column {column!r}")
        return self._cells[column].strip()[:_MOST_TEXT]

    def number(self, column: str) -> float:
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= _MOST_NUMBER:
            raise self.wrong(column, f"{text[:40]!r} is no figure of this kind")
        return value

    def whole(self, column: str) -> int:
        value = self.number(column)
        if value != int(value):
            raise self.wrong(column, f"{value} is no whole number")
        return int(value)

    def wrong(self, column: str, why: str) -> JobFault:
        return _broken(self._path, f"line {self._line}, {column}: {why}")


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error
    if len(data) > _MOST_BYTES:
        raise _broken(path, f"it is larger than {_MOST_BYTES // 2**20} MiB")
    try:
        lines = csv.reader(io.StringIO(data.decode()), strict=True)
        head = next(lines, [])
        if len(set(head)) != len(head):
            raise _broken(path, "two of its columns have one name")
        for at, cells in enumerate(lines, 2):
            if at > _MOST_ROWS:
                raise _broken(path, f"it has more than {_MOST_ROWS} rows")
            if len(cells) != len(head):
                raise _broken(path, f"line {at} has {len(cells)} cells of {len(head)}")
            yield _Row(path, at, dict(zip(head, cells, strict=True)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, str(error)) from error


def _broken(path: Path, why: str) -> JobFault:
    return JobFault(
        "EV374",
        f"{path.name} is no table of Vela's that can be read",
        why,
        "compile again; another version of ethos-u-vela may write other tables",
    )
