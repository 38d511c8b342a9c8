"""Meters of a phone that this machine reads over the link, while something runs there.

    power-stats   rails of a Pixel, by its dumpsys: counted, so asked twice and no more
    battery       current times voltage of /sys/class/power_supply, asked once a second

Where Python runs on the device, every meter of METERS is read there instead. Asking costs the
device some of its time and power: that is in the figure.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence

from edgevlm.compiler.errors import EdgeError
from edgevlm.devices.connect.mirror import BATTERY, Mirror, mirrored
from edgevlm.devices.connect.session import Device
from edgevlm.devices.power import check_meter
from edgevlm.devices.power.base import Meter
from edgevlm.devices.power.power_stats import PowerStats
from edgevlm.devices.power.power_supply import Battery
from edgevlm.devices.power.program import Program
from edgevlm.devices.power.sampled import Sampled

__all__ = ["NAMES", "meter_there"]

NAMES = ("power-stats", "battery")  # the one to prefer first


class BatteryThere(Battery):
    """The same, of a tree that is fetched for each reading."""

    absent = "it has no battery that tells its current"

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(mirror.root)
        self._mirror = mirror

    def read(self) -> Mapping[str, float]:
        try:
            self._mirror.refresh()
        except EdgeError as fault:
            raise OSError(fault.why) from fault
        return super().read()


@contextlib.contextmanager
def meter_there(kind: str, device: Device) -> Iterator[tuple[Meter | None, str | None]]:
    """(meter, None) where one can be read now, else (None, reason); as `find_meter`.

    Raises UsageFault EV402 for a name that is no meter's.
    """
    check_meter(kind)
    with mirrored(device, BATTERY) as mirror:
        made = {
            "power-stats": lambda: PowerStats(_program(device)),
            "battery": lambda: Sampled(BatteryThere(mirror), how="measured-device"),
        }
        if kind == "none":
            yield None, "no meter was asked for"
            return
        if kind not in ("auto", *made):
            yield None, f"{kind} is read by Python on the device; without: {', '.join(NAMES)}"
            return
        reasons = []
        for name in NAMES if kind == "auto" else (kind,):
            meter = made[name]()
            reason = meter.available()
            if reason is None:
                yield meter, None
                return
            reasons.append(f"{name}: {reason}")
        yield None, "; ".join(reasons)


def _program(device: Device) -> Program:
    def run(command: Sequence[str]) -> str:
        try:
            reply = device.ask(shlex.join(command))
        except EdgeError as fault:
            raise OSError(fault.why) from fault
        if reply.status:
            said = (reply.err or reply.text).strip().splitlines()
            raise OSError(f"{command[0]}: {said[-1][:200] if said else f'status {reply.status}'}")
        return reply.text

    return run
