"""Where Core ML would run each op: MLComputePlan of a Mac, asked for and read.

    placed = compute_plan("/Users/me/m.mlpackage", over(Ssh("mini.local")))
    placed.counts()                    {"ANE": 412, "CPU": 68}
    judge(lint("m.mlpackage"), placed) how the predictions did

`preferred` is what Core ML says before it runs, on the machine that was asked and for its macOS;
`cost` is its estimate of the share of the work. Neither is a measurement, and an iPhone of another
generation may place otherwise: https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.runtimes.coreml.lint import Lint
from edgevlm.runtimes.coreml.mac import Run, said, this_mac, unreadable

__all__ = ["Judged", "Placed", "Placement", "Units", "compute_plan", "judge", "parse_plan"]

Units = Literal["ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY"]
Device = Literal["ANE", "GPU", "CPU"]
MOST_BYTES = 64 << 20
#: `ios18.conv` as a plan has it, `conv` as a package has it
PREFIX = re.compile(r"^(ios|macos|watchos|tvos)\d+\.", re.IGNORECASE)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Placement(_Strict):
    """cost: share of the work by Core ML's estimate, 0 to 1; None where it gives none."""

    function: str = Field(max_length=1000)
    op: str = Field(max_length=4000)
    type: str = Field(max_length=200)
    preferred: Device
    supported: list[Device] = Field(max_length=8)
    cost: float | None = Field(ge=0, le=1)

    @property
    def plain_type(self) -> str:
        return PREFIX.sub("", self.type)


class Placed(_Strict):
    """A whole plan, and of what machine and tools it is."""

    label: ClassVar[str] = "estimated-mlcomputeplan"
    schema_: Literal[1] = Field(alias="schema")
    coremltools: str = Field(max_length=100)
    macos: str = Field(max_length=100)
    machine: str = Field(max_length=200)
    units: Units
    rows: list[Placement] = Field(max_length=1_000_000)

    def counts(self, function: str | None = None) -> dict[str, int]:
        """Ops a device; the constants of a program are none."""
        return dict(Counter(row.preferred for row in self._of(function)))

    def cost(self, device: Device, function: str | None = None) -> float:
        """Share of the estimated work of these ops that the device has."""
        rows = [row for row in self._of(function) if row.cost is not None]
        whole = sum(row.cost or 0 for row in rows)
        return sum(row.cost or 0 for row in rows if row.preferred == device) / (whole or 1)

    def off(self, device: Device = "ANE") -> dict[str, int]:
        """Type of op -> how many are not on the device, the most first."""
        return dict(Counter(r.plain_type for r in self.rows if r.preferred != device).most_common())

    def _of(self, function: str | None) -> list[Placement]:
        return [row for row in self.rows if function in (None, row.function)]


def compute_plan(path: str, run: Run | None = None, units: Units = "CPU_AND_NE") -> Placed:
    """path: of a package there. run: a Mac; None is this machine. Raises EV380, EV381, EV382."""
    return parse_plan(said(run or this_mac(), "compute_plan", [path, units]))


def parse_plan(data: bytes) -> Placed:
    """What scripts/compute_plan.py printed. Raises EV381."""
    if len(data) > MOST_BYTES:
        raise unreadable("a compute plan", f"more than {MOST_BYTES >> 20} MiB")
    try:
        return Placed.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise unreadable("a compute plan", f"{where}: {first['msg']}") from error


@dataclass(frozen=True)
class Judged:
    """Ops by what was predicted and what the plan says: (function, type, op) each."""

    rightly: tuple[tuple[str, str, str], ...]
    wrongly: tuple[tuple[str, str, str], ...]
    missed: tuple[tuple[str, str, str], ...]


def judge(lint: Lint, placed: Placed) -> Judged:
    """Ops of both. rightly: predicted to leave and left; wrongly: and stayed; missed: neither."""
    predicted = set(lint.leaving())
    names = {(f, op): (f, kind, op) for f, kind, op in lint.all_ops}
    rightly, wrongly, missed = [], [], []
    for row in placed.rows:
        key = (row.function, row.op)
        if key not in names:
            continue
        left = row.preferred != "ANE"
        if key in predicted:
            (rightly if left else wrongly).append(names[key])
        elif left:
            missed.append(names[key])
    return Judged(tuple(rightly), tuple(wrongly), tuple(missed))
