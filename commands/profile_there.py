"""Profile a bundle on a device over ssh or adb: copy, run, follow, fetch, clean up.

What runs there is the same `measure` as here, brought along (commands/carry.py), or, where no
Python is that could, a program of the bundle's runtime (commands/bench_there.py). Code that a
bundle carries is never run: it may come from a stranger.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from edgevlm.commands.bench_there import bench_there, takes_runner
from edgevlm.commands.carry import RUNNER
from edgevlm.commands.carry import runner as carried
from edgevlm.commands.on_device import ORDER, RESULT
from edgevlm.commands.output import Bar
from edgevlm.commands.profile_here import Order
from edgevlm.compiler.bundle import MANIFEST, Bundle, digest
from edgevlm.compiler.errors import EdgeError, JobFault, UsageFault
from edgevlm.devices import find_device
from edgevlm.devices.connect.clock import Alignment, align
from edgevlm.devices.connect.connection import Connection
from edgevlm.devices.connect.copying import Item, copy
from edgevlm.devices.connect.job import Job
from edgevlm.devices.connect.python import Wanted, check_python
from edgevlm.devices.connect.session import Device, reach
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.base import Runtime

__all__ = ["measure_there", "parsed"]

PICTURE = "picture"
LEAVE_S = 5.0  # for a link that is away while we clean up: whoever waits has waited already


def measure_there(
    bundle: Bundle,
    order: Order,
    connection: Connection,
    bar: Bar,
    *,
    python: str | None = None,
    runner: Path | None = None,
    keep: bool = False,
) -> tuple[dict[str, Any], Alignment | None]:
    """What `measure` says of that device, with `device`: how it was reached; its clock.

    python: an interpreter there. runner: a program of this machine that measures in its place.
    keep: leave the copy of the bundle for the next call. Raises EV431-EV439 (the device), EV101
    (artifacts), EV220 (a runner where none is wanted), and what `measure` raises there.
    """
    runtime = find_runtime(bundle.manifest.target.runtime)
    if not runtime.has_runner:  # else this machine may lack what opens it
        runtime.check(bundle)
    device = reach(connection)
    items = _items(bundle)
    copied = f"bundle-{items[MANIFEST].sha256[:16]}"
    job = Job(device, copied)
    try:
        _check_architecture(bundle, device)
        if takes_runner(runtime, device, python, runner):
            how = {"runner": runner, "keep": keep}
            return bench_there(bundle, runtime, order, device, bar, **how), None
        if runtime.has_runner:
            runtime.check(bundle)
        found = check_python(device, wanted_by(runtime), python)
        with bar(f"copy to {device.address}, KiB") as advance:
            copy(device, copied, items, lambda done, of: advance(done >> 10, of >> 10))
        before = align(connection)
        job.put({RUNNER: carried(bundle.manifest.target.runtime), **_ordered(order)})
        job.start([found.path, RUNNER, "measure", f"../{copied}", "."])
        with bar(f"profile on {device.address}") as advance:
            for event in job.follow():
                if {"done", "total"} <= event.keys():
                    advance(int(event["done"]), int(event["total"]))
        result = parsed(job.result(RESULT), device.address)
        after = align(connection)
    finally:
        _leave(device, job, keep)
    return result | {"device": _described(device, before, after)}, after or before


def wanted_by(runtime: Runtime) -> Wanted:
    """The Python that runs its bundles."""
    return Wanted(runtime.runs_with, runtime.runs_on, runtime.of_the_system is not None)


def _items(bundle: Bundle) -> dict[str, Item]:
    """Every file that a run reads."""
    manifest = bundle.folder / MANIFEST
    return {
        name: Item(bundle.folder / name, entry.sha256, entry.bytes)
        for name, entry in bundle.manifest.files.items()
    } | {MANIFEST: Item(manifest, digest(manifest), manifest.stat().st_size)}


def _ordered(order: Order) -> dict[str, bytes]:
    """The order as it lies there, with its picture beside it."""
    files = {PICTURE: Path(order.image).read_bytes()} if order.image else {}
    there = order.model_copy(update={"image": PICTURE} if files else {})
    return {ORDER: there.model_dump_json().encode(), **files}


def _check_architecture(bundle: Bundle, device: Device) -> None:
    """Raises EV434."""
    target, runtime = bundle.manifest.target.device, bundle.manifest.target.runtime
    wanted = find_device(target).architecture
    runs = (wanted,) if wanted else find_runtime(runtime).architectures
    if device.facts.architecture in runs:
        return
    raise UsageFault(
        "EV434",
        f"{bundle.folder.name} on {device.address}",
        f"it was compiled for {target}, which is {' or '.join(runs)}; "
        f"this device is {device.facts.architecture}",
        "compile it for this device: edgevlm devices list",
    )


def parsed(data: bytes, address: str) -> dict[str, Any]:
    """A result. Raises what was raised there, and EV439 for what is none."""
    try:
        result = json.loads(data)
        if "error" in result:
            fault = JobFault.relayed(result["error"], f"on {address}")
        elif {"stages", "host", "n", "window_s"} <= result.keys():
            return result
        else:
            raise ValueError("figures are missing")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JobFault(
            "EV439",
            f"what {address} measured cannot be read",
            f"{type(error).__name__}: {error}"[:300],
            "the same call again",
        ) from None
    raise fault


def _leave(device: Device, job: Job, keep: bool) -> None:
    """End what runs and take away what is ours; a link that is gone for good is told already."""
    device.patience_s = LEAVE_S
    with contextlib.suppress(EdgeError):
        job.remove(keep)


def _described(device: Device, before: Alignment | None, after: Alignment | None) -> dict[str, Any]:
    """Without the address: reports get published."""
    clock = None
    if before and after:
        clock = {
            "error_s": max(before.error_s, after.error_s),
            "drift_s": after.offset_s - before.offset_s,
        }
    return {"reached": device.connection.kind, "cuts": device.cuts, "clock": clock}
