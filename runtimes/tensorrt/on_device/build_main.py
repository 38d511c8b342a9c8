"""`python3 build_on_device.py`: an engine a part, and whether its kernels are as expected.

With --compute-capability it is the host's preflight: the same builds for a GPU that is not there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any, Iterator, Sequence

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.runtimes.tensorrt.on_device.api import Api, find_api
from edgevlm.runtimes.tensorrt.on_device.calling import (
    common_options,
    engines_folder,
    finish,
    tell,
)
from edgevlm.runtimes.tensorrt.on_device.check import check_artifacts, check_device, older_release
from edgevlm.runtimes.tensorrt.on_device.cudart import find_cuda
from edgevlm.runtimes.tensorrt.on_device.keys import EngineStore
from edgevlm.runtimes.tensorrt.on_device.making import Made, Maker, preflight
from edgevlm.runtimes.tensorrt.on_device.plan import PartPlan, Plan, read_plan
from edgevlm.runtimes.tensorrt.on_device.session import refusal_of
from edgevlm.runtimes.tensorrt.on_device.trtexec import command_of, read_run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, bundle: Path | None = None) -> int:
    """0 if every engine was built, 1 or 2 if not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Build the engines of this bundle on this device.")
    common_options(parser, bundle)
    add = parser.add_argument
    add("--parts", help="those parts only, such as vision,connector")
    add("--rebuild", action="store_true", help="build engines that are there already")
    add("--no-timing-cache", action="store_true", help="time every kernel anew")
    add("--strict", action="store_true", help="fail where kernels are not as expected")
    add("--prune", action="store_true", help="remove engines that nothing here uses any more")
    add("--compute-capability", metavar="SM86", help="RTX only: build for that GPU, keep nothing")
    add("--trtexec", type=Path, metavar="FOLDER", help="print lines of trtexec that do the same")
    add("--read-trtexec", type=Path, metavar="FOLDER", help="tell what those lines have left there")
    args = parser.parse_args(argv)
    return finish(lambda: _work(args), _lines, args.json)


def _work(args: argparse.Namespace) -> dict[str, Any]:
    plan = read_plan(args.bundle)
    parts = _asked(plan, args.parts)
    workspace = args.workspace or plan.workspace
    if args.trtexec:
        lines = [command_of(part, args.trtexec, plan.tensorrt, workspace) for part in parts]
        return {"commands": [f"mkdir -p {shlex.quote(str(args.trtexec))}", *lines]}
    if args.read_trtexec:
        return {"runs": [read_run(part, args.read_trtexec) for part in parts]}
    api = find_api(args.library)
    if args.compute_capability:
        made, where = _preflight(api, plan, parts, workspace, args.compute_capability), {}
        capability = args.compute_capability
    else:
        made, where = _build(api, plan, parts, workspace, args)
        capability = where.pop("cc")
    report = {
        "library": api.name,
        "version": api.version,
        "cc": capability,
        "device": plan.device,
        "preflight": bool(args.compute_capability),
        "notes": older_release(plan, api),
        **where,
        "parts": [one.as_json() for one in made],
    }
    return {**report, "failed": _failure(made, plan, api, args.strict)}


def _preflight(
    api: Api, plan: Plan, parts: Sequence[PartPlan], workspace: int | None, capability: str
) -> list[Made]:
    if capability not in api.capabilities:
        known = ", ".join(api.capabilities) or "the GPU that is there, and no other"
        raise UsageFault(
            "EV356",
            f"--compute-capability {capability}",
            f"{api.name} {api.version} builds for {known}",
            "leave it out on the device itself; on a host: --library tensorrt_rtx_bindings",
        )
    check_artifacts(plan, parts)
    return [preflight(api, part, workspace, capability) for part in parts]


def _build(
    api: Api,
    plan: Plan,
    parts: Sequence[PartPlan],
    workspace: int | None,
    args: argparse.Namespace,
) -> tuple[list[Made], dict[str, Any]]:
    cuda = find_cuda()
    sm = cuda.compute_capability
    check_device(plan, sm, args.any_device)
    store = EngineStore(engines_folder(args.bundle, args.engines), args.bundle)
    stream = cuda.stream()
    maker = Maker(
        api,
        cuda,
        stream,
        store,
        plan,
        sm,
        workspace,
        rebuild=args.rebuild,
        timing=not args.no_timing_cache,
        loud=args.verbose,
        only_build=True,
    )
    made = maker.make(parts, tell)
    cuda.end_stream(stream)
    where: dict[str, Any] = {"cc": f"SM{sm}", "engines": str(store.folder), "removed": []}
    if args.prune:
        maker.claim(plan.parts)
        where["removed"] = store.prune({part.digest for part in plan.parts})
    return made, where


def _asked(plan: Plan, names: str | None) -> list[PartPlan]:
    """Parts of --parts, in the plan's order. Raises EV220 for one that there is not."""
    if names is None:
        return plan.parts
    wanted = names.split(",")
    known = [part.role for part in plan.parts]
    strange = [name for name in wanted if name not in known]
    if strange:
        raise UsageFault(
            "EV220",
            f"--parts {names}: there is no part {strange[0]!r}",
            f"this bundle has {', '.join(known)}",
            f"--parts {known[0]}",
        )
    return [part for part in plan.parts if part.role in wanted]


def _failure(made: list[Made], plan: Plan, api: Api, strict: bool) -> JobFault | None:
    refused = refusal_of(made, plan, api)
    if refused:
        return refused
    unlike = [f"{one.part.role}: {v}" for one in made for v in one.verdicts if v.ok is False]
    if unlike and strict:
        return JobFault(
            "EV352",
            "the engines do not have the kernels that the bundle was made for",
            "; ".join(unlike),
            "leave --strict out to use them all the same; they answer, but slower than they could",
        )
    return None


def _lines(report: dict[str, Any]) -> Iterator[str]:
    if "commands" in report:
        yield from report["commands"]
        return
    if "runs" in report:
        for part in report["runs"]:
            taken = part["run_ms"]
            yield f"{part['role']:<10} {taken['p50_ms']:9.3f} ms  n {taken['n']}"
            yield from _verdicts(part)
        return
    yield f"{report['library']} {report['version']}, {report['cc']}, bundle for {report['device']}"
    for part in report["parts"]:
        size = f"{part['engine_bytes'] / 2**20:.1f} MiB"
        done = f"built in {part['build_s']:.1f} s" if part["why"] else "was there"
        yield f"{part['role']:<10} {size:>12}  {done if part['ok'] else 'REFUSED'}"
        for refusal in part["refusals"]:
            yield f"  {refusal['stage']} {refusal['op']} {refusal['node']}: {refusal['text']}"
        if part["ok"]:
            yield from _verdicts(part)
    yield from (f"note: {note}" for note in report["notes"])
    yield from (f"removed {name}" for name in report.get("removed", ()))


def _verdicts(part: dict[str, Any]) -> Iterator[str]:
    """What is not as expected, or cannot be told."""
    for verdict in part["expects"]:
        bound = f"{verdict['what']}: {verdict['found']} found, {verdict['wanted']} wanted"
        if verdict["ok"] is False:
            yield f"  warning EV352: {bound}; slower than it could be"
        elif verdict["ok"] is None:
            yield f"  {bound}; cannot be told, layers hide products"


if __name__ == "__main__":
    sys.exit(main())
