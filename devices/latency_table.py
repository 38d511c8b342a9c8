"""What a part takes on one device at some widths, measured once and kept; between them a surface.

    ms[i][j]   with heads that take heads[i] multiplications (all but those of hidden units) and
               units[j] of hidden units; both rise, the last of each is the whole part

Between entries it is bilinear, outside it is flat. More work does not take less time: where entries
say so, by noise, they are moved to the mean of the nearest two rising surfaces above and below.
A table is kept in the cache under a digest of what its times hang on: the structure of the part,
the runtime and its versions, the host. What cannot be read, or is no table, is measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgevlm.compiler.atomic import atomic_file
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.errors import JobFault
from edgevlm.devices.host import describe_host
from edgevlm.devices.stats import check_how

__all__ = ["LatencyTable", "host_key", "kept_table", "table_path"]

SCHEMA = 1
MAX_BYTES = 2**20


class LatencyTable(BaseModel):
    """Of one part on one device."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    heads: list[int] = Field(min_length=1, max_length=64)
    units: list[int] = Field(min_length=1, max_length=64)
    ms: list[list[float]]
    n: int = Field(ge=1, description="timed runs an entry")
    how: str

    @model_validator(mode="after")
    def _consistent(self) -> LatencyTable:
        check_how(self.how)
        for axis in (self.heads, self.units):
            if axis[0] < 0 or any(a >= b for a, b in pairwise(axis)):
                raise ValueError("multiplications do not rise")
        if [len(row) for row in self.ms] != [len(self.units)] * len(self.heads):
            raise ValueError("not one time an entry")
        if not all(np.isfinite(t) and t > 0 for row in self.ms for t in row):
            raise ValueError("a time is not above zero")
        return self

    @property
    def whole_ms(self) -> float:
        return float(self._surface[-1, -1])

    @property
    def least_ms(self) -> float:
        return float(self._surface[0, 0])

    def predict(self, heads: float, units: float) -> float:
        """ms."""
        return float(np.interp(units, self.units, self._along_units(heads)))

    def affords(self, heads: float, ms: float) -> int | None:
        """Multiplications of hidden units; None where even the fewest take longer."""
        row = self._along_units(heads)
        if row[0] > ms:
            return None
        last = int(np.flatnonzero(row <= ms)[-1])
        if last == len(row) - 1:
            return self.units[-1]
        share = (ms - row[last]) / (row[last + 1] - row[last])
        return int(self.units[last] + share * (self.units[last + 1] - self.units[last]))

    @property
    def _surface(self) -> np.ndarray:
        above = below = np.array(self.ms)
        for axis in (0, 1):
            above = np.maximum.accumulate(above, axis)
            below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis), axis)
        return (above + below) / 2

    def _along_units(self, heads: float) -> np.ndarray:
        return np.array([np.interp(heads, self.heads, column) for column in self._surface.T])


def host_key() -> dict[str, object]:
    """What of this machine decides how long a run takes, and does not change by the minute."""
    host = describe_host()
    fields = ("cpu_model", "architecture", "cores", "cpu_quota", "cpu_flags", "governor")
    return {name: getattr(host, name) for name in fields}


def table_path(key: Mapping[str, object]) -> Path:
    text = json.dumps({"schema": SCHEMA, **key}, sort_keys=True)
    return cache_root() / "latency" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def kept_table(
    key: Mapping[str, object], measure: Callable[[], LatencyTable]
) -> tuple[LatencyTable, bool]:
    """The table of this key, and whether it was there; else it is measured, and kept if it can be.

    key: plain data. Two compiles at once both measure, and the last one's table stays.
    """
    from filelock import FileLock

    path = table_path(key)
    with contextlib.suppress(OSError, ValidationError):
        if path.stat().st_size <= MAX_BYTES:
            return LatencyTable.model_validate_json(path.read_bytes()), True
    table = measure()
    with contextlib.suppress(OSError, JobFault):  # a cache that cannot be written is none
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            atomic_file(path, table.model_dump_json(indent=1).encode())
    return table, False
