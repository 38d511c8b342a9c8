"""`edgevlm doctor --device ssh://...`: what a device elsewhere has and lacks, and what brings it.

It is asked for, not guessed: the link, its shell, its disk and its Python first; with the packages
that run a bundle there, its own word on clocks, heat and meters.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from edgevlm.commands.carry import RUNNER, runner
from edgevlm.commands.doctor_checks import Check
from edgevlm.commands.profile_there import wanted_by
from edgevlm.compiler.errors import EdgeError
from edgevlm.devices.connect.connection import Connection
from edgevlm.devices.connect.job import Job
from edgevlm.devices.connect.python import Python, find_python, set_up, unfit
from edgevlm.devices.connect.session import Device, reach
from edgevlm.runtimes import RUNTIMES, find_runtime

__all__ = ["checks_there"]

LEAST_FREE_GB = 1.0


def checks_there(connection: Connection, python: str | None = None) -> Iterator[Check]:
    """Lines of the table; what fails is a line as well."""
    try:
        device = reach(connection)
    except EdgeError as fault:
        yield Check("link", False, f"{fault.what}: {fault.why}", "everything", fault.fix)
        return
    job = Job(device)
    try:
        yield Check(
            "link", True, f"{device.facts.system}, {device.facts.architecture}", "everything"
        )
        yield from _disk(device)
        found = {name: _runtime(device, name, python) for name in RUNTIMES}
        able = next(((name, it) for name, (_, it) in found.items() if it), None)
        for check, _ in found.values():
            # one that runs is enough: which runtime a bundle has is not known here
            yield dataclasses.replace(check, ok=check.ok or None) if able else check
        if able:
            yield from _own_word(job, *able)
    except EdgeError as fault:
        yield Check("link", False, f"{fault.what}: {fault.why}", "everything", fault.fix)
    finally:
        with suppress(EdgeError):
            job.remove()


def _disk(device: Device) -> Iterator[Check]:
    free_gb = device.free_bytes() / 1e9
    ok = free_gb >= LEAST_FREE_GB
    yield Check(
        "disk",
        ok,
        f"{free_gb:.1f} GB free at {device.facts.root}",
        "copying a bundle",
        None if ok else f"free some there until {LEAST_FREE_GB:g} GB are left",
    )


def _runtime(device: Device, name: str, python: str | None) -> tuple[Check, Python | None]:
    """Whether bundles of a runtime can run there, and with which Python."""
    runtime = find_runtime(name)
    title, needed_for = f"runtime {name}", f"bundles of runtime {name}"
    if device.facts.architecture not in runtime.architectures:
        where = " or ".join(runtime.architectures)
        return Check(title, None, f"runs on {where}", needed_for, "another runtime"), None
    wanted = wanted_by(runtime)
    found = find_python(device, wanted.packages, python)
    if why := unfit(found, wanted.least, python):
        return Check(title, False, why, needed_for, set_up(device, wanted)), None
    if runtime.of_the_system:
        module, call = runtime.of_the_system
        line = f"{shlex.quote(found.path)} -c {shlex.quote(f'import {module}')}"
        if device.ask(line).status:
            return Check(title, False, f"{found.path} has no {module}", needed_for, call), None
    version = ".".join(map(str, found.version))
    packages = ", ".join(f"{each} {found.packages[each]}" for each in runtime.runs_with)
    return Check(title, True, f"Python {version}, {packages}", needed_for), found


def _own_word(job: Job, runtime: str, python: Python) -> Iterator[Check]:
    """What it tells of itself through the program that would measure there."""
    job.put({RUNNER: runner(runtime)})
    job.start([python.path, RUNNER, "describe"])
    for _ in job.follow():
        pass
    try:
        told: dict[str, Any] = json.loads(job.result("printed"))
        host, state, meters = told["host"], told["state"], told["meters"]
        machine = f"{host['cpu_model']}, {host['cores']} cores, {host['ram_gib']} GiB"
        lines = [Check("machine", True, machine, "running bundles")]
        governor = state["governor"]
        steady = governor == "performance"
        lines.append(
            Check(
                "clock governor",
                steady or None,
                governor or "cannot be read",
                "figures that repeat",
                None if steady else "sudo cpupower frequency-set -g performance, on the device",
            )
        )
        if state["power_mode"]:
            lines.append(Check("power mode", True, state["power_mode"], "figures that repeat"))
        hot = max(told["celsius"].values(), default=None)
        lines.append(
            Check(
                "temperature",
                hot is not None or None,
                "cannot be read" if hot is None else f"{hot:.0f} C at the hottest zone",
                "telling whether it throttles",
                None if hot is not None else "compare the first figures of a run with the last",
            )
        )
        for name, reason in meters.items():
            lines.append(
                Check(
                    f"energy meter {name}",
                    None if reason else True,
                    str(reason or "readable"),
                    "joules in edgevlm profile",
                    "profile without energy, or with another meter" if reason else None,
                )
            )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        lines = [
            Check(
                "its own word",
                False,
                f"cannot be read ({type(error).__name__})",
                "profile",
                "the same call again",
            )
        ]
    yield from lines
