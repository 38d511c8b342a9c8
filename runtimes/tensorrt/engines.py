"""A bundle whose engines are built here: on the device, or a desktop with the card it is for.

Engines that are kept from the last time are taken, others are built, in a folder beside the bundle.
One call of every part is compared with what the host's compile kept, before anything is answered.
The same code builds for the two scripts of a bundle (on_device/).
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.runtimes.tensorrt.on_device.api import find_api
from edgevlm.runtimes.tensorrt.on_device.calling import engines_folder
from edgevlm.runtimes.tensorrt.on_device.check import check_device
from edgevlm.runtimes.tensorrt.on_device.cudart import find_cuda
from edgevlm.runtimes.tensorrt.on_device.goldens import check_part, open_tensors, part_feeds
from edgevlm.runtimes.tensorrt.on_device.keys import EngineStore
from edgevlm.runtimes.tensorrt.on_device.making import Made, Maker
from edgevlm.runtimes.tensorrt.on_device.parts import EngineParts
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle

__all__ = ["OpenedEngines", "can_build", "open_engines"]


class OpenedEngines(EngineParts):
    """`report`: what was built and how it compared, for `edgevlm profile`."""

    report: dict[str, Any]


def can_build(bundle: Bundle) -> bool:
    """Whether this machine has TensorRT, CUDA's runtime and a GPU that the bundle is for."""
    with contextlib.suppress(EdgeError, RuntimeError, OSError):
        find_api()
        return find_cuda().compute_capability == read_plan(bundle.folder).sm
    return False


def open_engines(bundle: Bundle) -> OpenedEngines:
    """Raises EV350 (refused), EV353 (other outputs), EV354-EV357, EV307 (CUDA)."""
    plan = read_plan(bundle.folder)
    tensors = open_tensors(plan.tensors)
    api, cuda = find_api(), find_cuda()
    sm = cuda.compute_capability
    check_device(plan, sm, False)
    store = EngineStore(engines_folder(bundle.folder, None))
    maker = Maker(api, cuda, cuda.stream(), store, plan, sm, plan.workspace)
    made = maker.make(plan.parts, lambda line: print(line, file=sys.stderr))
    refused = [one for one in made if one.built.refusals]
    if refused:
        raise JobFault(
            "EV350",
            f"TensorRT refuses {', '.join(one.part.role for one in refused)}",
            "; ".join(str(one.built.refusals[0]) for one in refused)[:300],
            "python3 build_on_device.py --json, in the bundle there, tells all",
        )
    parts = OpenedEngines({one.part.role: one.engine for one in made if one.engine})
    checks = []
    for part in plan.parts:
        feeds = part_feeds(tensors, part.role)
        if feeds:
            outputs = parts.call(part.role, feeds)
            checks += check_part(part, outputs, part_feeds(tensors, part.role, "out"))
    unlike = [f"{c.role}/{c.name}" for c in checks if not c.ok]
    if unlike:
        parts.close()
        raise JobFault(
            "EV353",
            "the engines do not answer as the bundle was compiled to",
            f"outputs stray from the host's: {', '.join(unlike[:5])}",
            "compile without the scheme at fault; edgevlm report shows which part strays",
        )
    parts.report = {
        "library": api.name,
        "version": api.version,
        "sm": sm,
        "cuda": cuda.version,
        "folder_bytes": sum(one.engine_bytes for one in made),
        "parts": [_row(one) for one in made],
        "goldens": [check.as_json() for check in checks],
    }
    return parts


def _row(made: Made) -> dict[str, Any]:
    """Without the layers, which `--ops` times."""
    row = made.as_json()
    row.pop("layers")
    return row
