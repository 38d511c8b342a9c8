"""Clocks and mode of a machine before and after a profile: figures without them do not repeat."""

from __future__ import annotations

from edgevlm.devices.report.measured import State, States
from edgevlm.devices.report.words import short

__all__ = ["state_rows"]


def state_rows(states: States) -> list[tuple[str, str, str]]:
    """(what, before, after); without what neither shows."""
    before, after = _told(states.before), _told(states.after)
    names = list(dict.fromkeys([*before, *after]))
    return [(short(n, 60), before.get(n, "–"), after.get(n, "–")) for n in names]


def _told(state: State) -> dict[str, str]:
    cores = [mhz for mhz in state.cpu_mhz or () if mhz is not None]
    told = {
        "power mode": state.power_mode,
        "governor": state.governor,
        "cores, MHz": _range(cores),
        "cores at the most, MHz": _mhz(state.cpu_most_mhz),
        **{f"{name}, MHz": _mhz(mhz) for name, mhz in state.units_mhz.items()},
    }
    return {name: value for name, value in told.items() if value}


def _range(mhz: list[float]) -> str | None:
    if not mhz:
        return None
    low, high = _mhz(min(mhz)), _mhz(max(mhz))
    return f"{low} to {high}" if low != high else low


def _mhz(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"
