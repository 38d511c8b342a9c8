"""Profile a bundle on a device without Python: the runtime's own program times it part by part.

    here    one request through all parts: what each takes and gives
    there   each part so many times on the same numbers; its outputs are held against ours

The JSON is that of any profile. A request there is: no picture is prepared and no token chosen, so
rates are made of the parts' medians, and there is no time of a whole answer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgevlm import __version__
from edgevlm.commands.host_numbers import HostNumbers, host_numbers
from edgevlm.commands.output import Bar
from edgevlm.commands.profile_here import IDLE_S, Order
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices.connect.look import look
from edgevlm.devices.connect.mirror import mirrored
from edgevlm.devices.connect.python import find_python, unfit
from edgevlm.devices.connect.session import Device
from edgevlm.devices.power import EnergyResult, Meter, measure_energy
from edgevlm.devices.power.there import meter_there
from edgevlm.devices.state import describe_state
from edgevlm.devices.stats import summarise
from edgevlm.devices.thermal import Thermal
from edgevlm.runtimes.base import Runtime, by_part
from edgevlm.runtimes.bench import Asked, Benched

__all__ = ["bench_there", "takes_runner"]

APART = (
    "Parts were timed apart on the numbers of one request: no picture was prepared, no token "
    "chosen; rates are of the parts' medians."
)
HOW = "measured-device"


def takes_runner(runtime: Runtime, device: Device, python: str | None, runner: Path | None) -> bool:
    """Whether its own program measures there: it was named, or no Python there runs the bundle.

    Raises EV220 for a runtime that has none.
    """
    if not runtime.has_runner:
        if runner is not None:
            raise UsageFault(
                "EV220",
                f"--runner {runner.name[:60]} for a bundle of runtime {runtime.name}",
                "it has no program of its own: Python runs it there",
                "leave it out; edgevlm doctor --device says what is missing there",
            )
        return False
    if runner is not None or python is not None:
        return runner is not None
    found = find_python(device, runtime.runs_with)
    return unfit(found, runtime.runs_on) is not None


def bench_there(
    bundle: Bundle,
    runtime: Runtime,
    order: Order,
    device: Device,
    bar: Bar,
    *,
    runner: Path | None = None,
    keep: bool = False,
) -> dict[str, Any]:
    """What `measure` says, as far as it is known. Raises EV220 (a duration), EV364 (other numbers
    than the host's), EV402 (no such meter), and as `Runtime.bench_there`."""
    if order.duration_s is not None:
        raise UsageFault(
            "EV220",
            f"--duration of a run on {device.address}",
            "without Python there it is timed part by part, by counts and not by seconds",
            "-n 500",
        )
    ours = host_numbers(bundle, order.image, order.prompt)
    asked = Asked(order.n, order.warmup, runner, ours.feeds)
    with ExitStack() as stack:
        mirror = stack.enter_context(mirrored(device))
        meter, reason = stack.enter_context(meter_there(order.power, device))
        mirror.refresh()
        host, before = look(device, mirror), _state(mirror.root)
        with bar(f"copy to {device.address}, KiB") as advance:
            run = stack.enter_context(
                runtime.bench_there(bundle, device, asked, _kib(advance), keep)
            )
        thermal = Thermal(mirror.root)
        with bar(f"profile on {device.address}") as advance:

            def tell(done: int, total: int) -> None:
                mirror.refresh()
                thermal.look()
                advance(done, total)

            thermal.begin()
            benched, energy, note = _metered(meter, reason, functools.partial(run, tell))
        mirror.refresh()
        thermal.end()
        after = _state(mirror.root)
    outputs = _compared(benched, ours, device)
    report = {
        **_rates(benched),
        "power": energy and {**energy.as_json(), "joules_per_image": None, "fps_per_watt": None},
        "energy_j_per_answer": None,
        "energy_note": note,
        "warmup": order.warmup,
        "n": order.n,
        "peak_rss_mb": None,
        "host": host.as_json(),
        "requests": 1 if ours.feeds else 0,
        "window_s": (0.0, 0.0),
        "state": {"before": before, "after": after},
        "thermal": thermal.as_json(),
        "sustained": None,
        "tools": {"edgevlm": __version__, benched.program: None},
        "device": {"reached": device.connection.kind, "cuts": device.cuts, "clock": None},
        "runner": {
            "program": benched.program,
            "loads_ms": dict(benched.loads_ms),
            "outputs": outputs,
            "not_verified": _not_verified(benched, ours),
        },
        "notes": [APART, *benched.notes],
    }
    if order.ops:
        rows = {"ops": by_part(benched.layers), "layers": benched.layers}
        report |= {name: [dict(vars(row)) for row in of] for name, of in rows.items()}
    return report


def _kib(advance: Callable[[int, int], None]) -> Callable[[int, int], None]:
    return lambda done, of: advance(done >> 10, of >> 10)


def _state(root: Path) -> dict[str, Any]:
    return describe_state(root, run=lambda _: "")


def _metered(
    meter: Meter | None, reason: str | None, work: Callable[[], Benched]
) -> tuple[Benched, EnergyResult | None, str]:
    """Watts while the parts ran, loading included: so there are no joules of an answer."""
    if meter is None:
        return work(), None, f"not measured: {reason}"
    done: list[Benched] = []

    def worked() -> int:
        done.append(work())
        return 1

    try:
        energy = measure_energy(meter, worked, idle_s=IDLE_S, how=HOW)
    except JobFault as fault:
        if fault.code != "EV402" or not done:
            raise
        return done[0], None, f"not measured: {fault.why}"
    if energy.watts is None:
        return done[0], energy, energy.note
    note = (
        f"{energy.meter}: {energy.watts:.2f} W in {energy.seconds:.1f} s in which every part was "
        "loaded and run, idle power included; joules of an answer cannot be told of that"
    )
    none = {"joules_per_answer": None, "joules_above_idle_per_answer": None}
    return done[0], dataclasses.replace(energy, note=note, **none), note


def _rates(benched: Benched) -> dict[str, Any]:
    stages = {role: summarise(taken, HOW) for role, taken in benched.seconds.items()}
    p50 = {role: stage.p50_ms for role, stage in stages.items()}

    def whole(*roles: str) -> float:
        return sum(p50.get(role, 0.0) for role in roles)

    image, word = whole("vision", "connector"), whole("embed", "decode")
    return {
        "stages": {role: stage.as_json() for role, stage in stages.items()},
        "fps": 1e3 / image if image else None,
        "tokens_per_s": 1e3 / word if "decode" in p50 and word else None,
        "ttft_ms": image + whole("embed", "prefill") if "prefill" in p50 else None,
        "answers_per_s": None,
    }


def _compared(benched: Benched, ours: HostNumbers, device: Device) -> list[dict[str, Any]]:
    """Raises EV364."""
    rows = []
    for role, outputs in benched.outputs.items():
        floor = benched.floors[role]
        for name, found in outputs.items():
            if name not in ours.outputs.get(role, {}):
                continue
            drift = measure(ours.outputs[role][name], found, name)
            if not drift.sqnr_db >= floor:  # also when it is not a number
                raise JobFault(
                    "EV364",
                    f"part {role} gives other numbers on {device.address} than here",
                    f"output {name}: {drift.sqnr_db:.1f} dB, {floor:.0f} dB is the least",
                    f"another {benched.program}, built of the release that is installed here",
                )
            db = drift.as_json()["sqnr_db"]
            rows.append({"role": role, "output": name, "db": db, "floor_db": floor, "ok": True})
    return rows


def _not_verified(benched: Benched, ours: HostNumbers) -> Mapping[str, str]:
    if ours.missing:
        return dict.fromkeys(benched.seconds, ours.missing)
    return dict(benched.unseen)
