"""Which meters there are, and how energy is charged to answers: always against idle.

A machine draws power doing nothing, so the idle power is read before and after the work. When the
two differ by more than a fifth, something else ran beside us and no figure is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from time import sleep
from typing import Any

from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.power.base import Absent, Energy, Meter, window
from edgevlm.devices.power.ina226 import Ina226
from edgevlm.devices.power.ina260 import Ina260
from edgevlm.devices.power.ina3221 import Ina3221
from edgevlm.devices.power.nvml import Nvml
from edgevlm.devices.power.pmic import Pmic
from edgevlm.devices.power.power_stats import PowerStats
from edgevlm.devices.power.power_supply import Battery
from edgevlm.devices.power.rapl import Rapl
from edgevlm.devices.power.sampled import Sampled
from edgevlm.devices.power.tegrastats import Tegrastats
from edgevlm.devices.power.xmutil import Xmutil

__all__ = [
    "IDLE_TOLERANCE",
    "METERS",
    "Energy",
    "EnergyResult",
    "Meter",
    "check_meter",
    "find_meter",
    "measure_energy",
]

# Every meter that this machine may have, the one to prefer first.
METERS: dict[str, Callable[[], Meter]] = {
    "rapl": Rapl,
    "ina3221": lambda: Sampled(Ina3221()),
    "ina260": lambda: Sampled(Ina260()),
    "ina226": lambda: Sampled(Ina226()),
    "tegrastats": lambda: Sampled(Tegrastats()),
    "xmutil": lambda: Sampled(Xmutil()),
    "pmic": lambda: Sampled(Pmic()),
    "power-stats": PowerStats,
    "battery": lambda: Sampled(Battery()),
    "nvml": Nvml,
}
ASKED_FOR = {"nvml"}  # never by "auto"
# Largest allowed difference of the two idle powers, as a share of the smaller one.
IDLE_TOLERANCE = 0.20


def find_meter(kind: str = "auto") -> tuple[Meter | None, str | None]:
    """(meter, None) when one can be read now, otherwise (None, reason).

    "auto" takes the first that works, "none" takes none. Raises UsageFault EV402 for another name.
    """
    check_meter(kind)
    if kind == "none":
        return None, "no meter was asked for"
    reasons, there = [], []
    names = [each for each in METERS if each not in ASKED_FOR] if kind == "auto" else [kind]
    for name in names:
        meter = METERS[name]()
        reason = meter.available()
        if reason is None:
            return meter, None
        reasons.append(f"{name}: {reason}")
        there += [] if isinstance(reason, Absent) else reasons[-1:]
    if kind == "auto" and not there:
        return None, f"this machine has none of {', '.join(names)}; `edgevlm doctor` says more"
    return None, "; ".join(there or reasons)


def check_meter(kind: str) -> None:
    """Raises UsageFault EV402 for a name that is no meter's, auto or none."""
    if kind not in ("auto", "none", *METERS):
        raise UsageFault(
            "EV402",
            f"unknown power meter {kind!r}",
            f"there are auto, none, {', '.join(METERS)}",
            "edgevlm doctor, which says what each meter needs",
        )


@dataclasses.dataclass(frozen=True)
class EnergyResult:
    """Joules for one answer, and watts. All are None when the reading was rejected, as `note` says.

    `joules_per_answer` is all that the meter saw, idle included: what the supply or the battery
    paid. `joules_above_idle_per_answer` leaves out what the machine would have drawn anyway.
    """

    joules_per_answer: float | None
    joules_above_idle_per_answer: float | None
    watts: float | None  # mean over the work's window, idle included
    peak_watts: float | None  # the most that was read; None also where the meter is a counter
    answers: int
    seconds: float  # length of the work's window
    idle_w_before: float | None
    idle_w_after: float | None
    how: str
    meter: str
    note: str

    def as_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return dataclasses.asdict(self)


def measure_energy(
    meter: Meter,
    work: Callable[[], int],
    *,
    idle_s: float = 5.0,
    prepare: Callable[[], object] | None = None,
    how: str | None = None,
) -> EnergyResult:
    """Read idle for `idle_s` seconds, run `prepare` unmetered, meter `work`, read idle again.

    `work` returns how many answers it gave. `prepare` is the warm-up: it comes after the first
    idle window so that the work starts warm. `how` labels the result where the meter cannot know
    whether it is on a device. Raises JobFault EV402 when the meter fails; what
    `work` raises passes through with the meter stopped.
    """
    before = _idle(meter, idle_s)
    if prepare:
        prepare()
    with window(meter) as opened:
        answers = work()
    after = _idle(meter, idle_s)
    spent = opened.energy
    spent = dataclasses.replace(spent, how=how) if how else spent
    return _judge(before, spent, after, answers)


def _idle(meter: Meter, seconds: float) -> Energy:
    with window(meter) as opened:
        sleep(seconds)
    return opened.energy


def _judge(before: Energy, spent: Energy, after: Energy, answers: int) -> EnergyResult:
    low, high = before.watts, after.watts
    rejected = None
    if answers < 1:
        rejected = "the work gave no answer"
    elif low is None or high is None or spent.watts is None:
        rejected = "a window had no length"
    elif abs(high - low) > IDLE_TOLERANCE * min(low, high):
        rejected = (
            f"idle power was {low:.2f} W before and {high:.2f} W after, more than "
            f"{IDLE_TOLERANCE:.0%} apart: something else ran on the machine"
        )
    total = above = watts = peak = None
    if rejected:
        note = f"rejected: {rejected}"
    else:
        idle_w = (low + high) / 2
        watts, peak = spent.watts, spent.peak_watts
        total = spent.joules / answers
        above = (spent.joules - idle_w * spent.seconds) / answers
        note = (
            f"{spent.meter}, {spent.how}, {answers} answers in {spent.seconds:.2f} s, idle "
            f"{idle_w:.2f} W included, {above:.3g} J an answer above idle"
        )
        note += f"; {spent.note}" if spent.note else ""
    return EnergyResult(
        total, above, watts, peak, answers, spent.seconds, low, high, spent.how, spent.meter, note
    )
