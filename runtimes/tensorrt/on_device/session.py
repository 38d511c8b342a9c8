"""Everything that answers a question on this device, opened: plan, engines, and their notes."""

from __future__ import annotations

import argparse
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import Api, find_api
from edgevlm.runtimes.tensorrt.on_device.calling import engines_folder, tell
from edgevlm.runtimes.tensorrt.on_device.check import check_device, older_release
from edgevlm.runtimes.tensorrt.on_device.cudart import Cuda, find_cuda
from edgevlm.runtimes.tensorrt.on_device.keys import EngineStore
from edgevlm.runtimes.tensorrt.on_device.making import Made, Maker
from edgevlm.runtimes.tensorrt.on_device.parts import EngineParts
from edgevlm.runtimes.tensorrt.on_device.plan import Plan

__all__ = ["Session", "open_session", "refusal_of"]


@dataclass
class Session:
    """Open engines; `parts` is what `compiler/generate.py` asks."""

    plan: Plan
    api: Api
    cuda: Cuda
    sm: int  # compute capability x 10
    parts: EngineParts
    made: list[Made]

    def about(self) -> dict[str, Any]:
        """What runs here, for a report."""
        return {
            "library": self.api.name,
            "version": self.api.version,
            "cc": f"SM{self.sm}",
            "cuda": self.cuda.version,
            "device": self.plan.device,
        }

    @property
    def notes(self) -> list[str]:
        return older_release(self.plan, self.api) + self.parts.notes


@contextmanager
def open_session(plan: Plan, args: argparse.Namespace) -> Iterator[Session]:
    """Engines of all parts, built where they are missing unless `args.no_build`; closed at the end.

    args: those of `common_options`, no_build and no_graph. Raises EV350, EV351, EV354 to EV356.
    """
    api, cuda = find_api(args.library), find_cuda()
    sm = cuda.compute_capability
    check_device(plan, sm, args.any_device)
    stream = cuda.stream()
    maker = Maker(
        api,
        cuda,
        stream,
        EngineStore(engines_folder(args.bundle, args.engines), args.bundle),
        plan,
        sm,
        args.workspace or plan.workspace,
        may_build=not args.no_build,
        loud=args.verbose,
    )
    made = maker.make(plan.parts, tell)
    engines = {one.part.role: one.engine for one in made if one.engine}
    parts = EngineParts(engines, graphs=not args.no_graph)
    try:
        refused = refusal_of(made, plan, api)
        if refused:
            raise refused
        yield Session(plan, api, cuda, sm, parts, made)
    finally:
        parts.close()
        cuda.end_stream(stream)


def refusal_of(made: list[Made], plan: Plan, api: Api) -> JobFault | None:
    """EV350 for the parts that were refused, if any were.

    An older TensorRT than the bundle was written for is the likeliest cause: artifacts for one that
    knows fewer ops are written otherwise.
    """
    refused = [one for one in made if one.built.refusals]
    if not refused:
        return None
    what = f"TensorRT refuses {', '.join(one.part.role for one in refused)}"
    told = "; ".join(str(one.built.refusals[0]) for one in refused)
    older = older_release(plan, api)
    if older:
        there = ".".join(map(str, api.numbers[:2]))
        target = f"--target {shlex.quote(plan.device)} --toolchain tensorrt-{there}"
        fix = f"where it was compiled: edgevlm compile MODEL {target} -o BUNDLE"
        return JobFault("EV350", f"{what}: {told}", older[0], fix)
    return JobFault(
        "EV350",
        what,
        told,
        "python3 build_on_device.py --json tells all; please report it with the recipe",
    )
