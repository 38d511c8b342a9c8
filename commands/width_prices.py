"""What widths of a vision part cost, in ms of the target: measured once on this host, and kept.

The table is of the float part as it stands in front of `narrow-encoder`; `scale` is what becomes of
its times by whatever comes behind that.
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from edgevlm.commands.part_clock import PartClock
from edgevlm.compiler.axes import Signature
from edgevlm.compiler.structure import structure_digest
from edgevlm.devices.latency_table import LatencyTable, host_key, kept_table
from edgevlm.passes.derive.levels import head_levels, spent, unit_levels
from edgevlm.passes.derive.narrow_encoder import ROLE
from edgevlm.passes.derive.narrowing import Afford

__all__ = ["Prices", "width_table"]


class Prices:
    """A table as the pass asks for it. `least`: ms of the narrowest part that was asked about."""

    def __init__(self, table: LatencyTable, scale: float, signature: Signature) -> None:
        self.table, self.scale, self.signature = table, scale, signature
        self.least = math.inf

    def afford(self, ms: float) -> Afford:
        def macs(narrowed: ir.Model) -> int:
            heads, _ = spent(narrowed, self.signature)
            units = self.table.affords(heads, ms / self.scale)
            narrowest = self.scale * self.table.predict(heads, self.table.units[0])
            self.least = min(self.least, narrowest)
            return 0 if units is None else heads + units

        return macs

    def predict(self, part: ir.Model) -> float:
        return self.scale * self.table.predict(*spent(part, self.signature))


def width_table(clock: PartClock, multiple: int) -> tuple[LatencyTable, bool]:
    """Of the clock's model, and whether it was kept from before."""
    model, runtime = clock.model, clock.runtime
    signature, part = model.contract.signature(ROLE), model.parts[ROLE]
    key = {
        "part": structure_digest(part),
        "multiple": multiple,
        "runtime": runtime.name,
        "toolchain": runtime.toolchain(),
        "host": host_key(),
    }

    def measure() -> LatencyTable:
        rows = [
            list(unit_levels(level, signature, multiple))
            for level in head_levels(part, signature, multiple)
        ]
        plain = replace(clock, behind=None)
        taken = iter(plain.measure(each for row in rows for each in row))
        times = [[next(taken) for _ in row] for row in rows]
        return LatencyTable(
            heads=[spent(row[0], signature)[0] for row in reversed(rows)],
            units=[spent(each, signature)[1] for each in reversed(rows[0])],
            ms=[[each.ms for each in reversed(row)] for row in reversed(times)],
            n=min(each.n for row in times for each in row),
            how="measured-host",
        )

    return kept_table(key, measure)
