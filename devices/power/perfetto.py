"""Energy by rail from a Perfetto trace with `android.power` and collect_power_rails.

    select ts, t.name, value from counter c left join counter_track t on c.track_id = t.id

as trace_processor prints it in CSV, a row a sample:

    "ts","name","value"
    1000000000,"power.rails.tpu",120.000000        uW s since the phone began
    1000000000,"batt.current_ua",-812000.000000    uA, negative while it discharges

`ts` is in ns of the phone's boot clock. Rails count up: a window is the difference of two samples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

__all__ = ["parse_rails"]

PREFIX = "power.rails."
Counted = tuple[float, float]  # at s, uJ so far


def parse_rails(text: str, start_s: float, end_s: float) -> Mapping[str, float]:
    """Joules by rail between the samples nearest to both ends, in seconds of the boot clock.

    Raises ValueError for other text, or a window without two samples of a rail.
    """
    rows = csv.DictReader(io.StringIO(text))
    if not {"ts", "name", "value"} <= set(rows.fieldnames or ()):
        raise ValueError("no rows of ts, name, value")
    samples: dict[str, list[Counted]] = {}
    for row in rows:
        if (name := row["name"] or "").startswith(PREFIX):
            counted = int(row["ts"]) / 1e9, float(row["value"])
            samples.setdefault(name.removeprefix(PREFIX), []).append(counted)
    if not samples:
        raise ValueError("the trace has no power rails: this phone publishes none")
    return {rail: _between(rail, found, start_s, end_s) for rail, found in samples.items()}


def _between(rail: str, found: Sequence[Counted], start_s: float, end_s: float) -> float:
    first = min(found, key=lambda each: abs(each[0] - start_s))
    last = min(found, key=lambda each: abs(each[0] - end_s))
    if last[0] <= first[0]:
        raise ValueError(f"rail {rail} has no two samples in {end_s - start_s:.2f} s")
    if last[1] < first[1]:
        raise ValueError(f"rail {rail} counted backwards")
    return (last[1] - first[1]) / 1e6
