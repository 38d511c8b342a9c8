"""`python3 run_on_device.py`: the goldens answered by the engines, compared and timed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Iterator, Sequence

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import find_api
from edgevlm.runtimes.tensorrt.on_device.calling import (
    common_options,
    engines_folder,
    finish,
    tell,
)
from edgevlm.runtimes.tensorrt.on_device.check import check_device
from edgevlm.runtimes.tensorrt.on_device.cudart import find_cuda
from edgevlm.runtimes.tensorrt.on_device.goldens import (
    OutputCheck,
    check_part,
    open_tensors,
    part_feeds,
)
from edgevlm.runtimes.tensorrt.on_device.keys import EngineStore
from edgevlm.runtimes.tensorrt.on_device.making import Maker
from edgevlm.runtimes.tensorrt.on_device.parts import EngineParts
from edgevlm.runtimes.tensorrt.on_device.plan import Plan, read_plan
from edgevlm.runtimes.tensorrt.on_device.timing import Times, ask

__all__ = ["main"]

LAYER_RUNS = 20
SHOWN = 15  # slowest layers of a part


def main(argv: Sequence[str] | None = None, bundle: Path | None = None) -> int:
    """0 if the engines answer as the host's reference did, 1 or 2 if not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Answer the goldens of this bundle, and time it.")
    common_options(parser, bundle)
    add = parser.add_argument
    add("--goldens", type=_count, metavar="N", help="the first N questions only")
    add("--runs", type=_count, default=10, metavar="N", help="timed answers a question (10)")
    add("--no-graph", action="store_true", help="decode without a CUDA graph")
    add("--no-build", action="store_true", help="fail where an engine is missing")
    add("--layers", action="store_true", help="time every layer of every part")
    add("--parts-only", action="store_true", help="compare parts, ask nothing")
    args = parser.parse_args(argv)
    return finish(lambda: _work(args), _lines, args.json)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"{text} is no count from 1 to 1000000")
    return int(text)


def _work(args: argparse.Namespace) -> dict[str, Any]:
    plan = read_plan(args.bundle)
    tensors = open_tensors(plan.tensors)
    api, cuda = find_api(args.library), find_cuda()
    sm = cuda.compute_capability
    check_device(plan, sm, args.any_device)
    store = EngineStore(engines_folder(args.bundle, args.engines))
    stream = cuda.stream()
    workspace = args.workspace or plan.workspace
    maker = Maker(
        api,
        cuda,
        stream,
        store,
        plan,
        sm,
        workspace,
        may_build=not args.no_build,
        loud=args.verbose,
    )
    made = maker.make(plan.parts, tell)
    engines = {one.part.role: one.engine for one in made if one.engine}
    parts = EngineParts(engines, graphs=not args.no_graph)
    try:
        refused = [one for one in made if one.built.refusals]
        if refused:
            raise JobFault(
                "EV350",
                f"TensorRT refuses {', '.join(one.part.role for one in refused)}",
                "; ".join(str(one.built.refusals[0]) for one in refused),
                "python3 build_on_device.py --json tells all",
            )
        report: dict[str, Any] = {
            "library": api.name,
            "version": api.version,
            "cc": f"SM{sm}",
            "cuda": cuda.version,
            "device": plan.device,
        }
        checks = _compare(plan, parts, tensors)
        answers, times = [], Times()
        if not args.parts_only:
            answers, times = _ask_all(plan, parts, tensors, args)
        report["parts"] = [check.as_json() for check in checks]
        report["answers"] = answers
        report["times"] = times.as_json()
        report["text"] = [str(check) for check in checks] + times.lines()
        if args.layers:
            report["layers"] = {
                role: engine.layer_ms(LAYER_RUNS) for role, engine in engines.items()
            }
        report["notes"] = parts.notes
        return {**report, "failed": _failure(checks, answers)}
    finally:
        parts.close()
        cuda.end_stream(stream)


def _compare(plan: Plan, parts: EngineParts, tensors: Any) -> list[OutputCheck]:
    """The one call of every part that the host kept."""
    checks = []
    for part in plan.parts:
        feeds = part_feeds(tensors, part.role)
        if feeds:
            outputs = parts.call(part.role, feeds)
            checks += check_part(part, outputs, part_feeds(tensors, part.role, "out"))
    return checks


def _ask_all(
    plan: Plan, parts: EngineParts, tensors: Any, args: argparse.Namespace
) -> tuple[list[dict[str, Any]], Times]:
    """Every golden once for the answer, which also warms up, and `runs` times by the clock."""
    answers: list[dict[str, Any]] = []
    times = Times()
    if not plan.is_whole:
        return answers, times
    for i, golden in enumerate(plan.goldens[: args.goldens]):
        kept = {name: tensors[f"{i}/{name}"] for name in ("pixel_values", "before", "after")
                if f"{i}/{name}" in tensors.files}  # fmt: skip
        asked = (kept["pixel_values"], *(kept.get(k, ()) for k in ("before", "after")))
        ids: list[int] = []
        for run in range(args.runs + 1):
            said, seconds = ask(plan.contract, parts, plan.kind, *asked, plan.eos_ids)
            if run:
                times.add(seconds)
            else:
                ids = said
        same = ids == golden.token_ids or (plan.kind != "vlm" and not golden.token_ids)
        answers.append(
            {
                "question": golden.question,
                "answer": golden.answer,
                "token_ids": ids,
                "wanted": golden.token_ids,
                "ok": same,
            }
        )
    return answers, times


def _failure(checks: list[OutputCheck], answers: list[dict[str, Any]]) -> JobFault | None:
    unlike = [f"{c.role}/{c.name}" for c in checks if not c.ok]
    other = [i for i, answer in enumerate(answers) if not answer["ok"]]
    if not unlike and not other:
        return None
    why = []
    if unlike:
        why.append(f"outputs stray from the host's: {', '.join(unlike[:5])}")
    if other:
        why.append(f"{len(other)} of {len(answers)} goldens have other token ids")
    return JobFault(
        "EV353",
        "the engines do not answer as the bundle was compiled to",
        "; ".join(why),
        "python3 build_on_device.py --rebuild; if it stays so, compile without the scheme at fault",
    )


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"{report['library']} {report['version']}, {report['cc']}, bundle for {report['device']}"
    yield from report["text"]
    if report["answers"]:
        good = sum(answer["ok"] for answer in report["answers"])
        yield f"{good} of {len(report['answers'])} goldens answered alike, token for token"
    for role, layers in report.get("layers", {}).items():
        yield f"{role}: {sum(layers.values()):.3f} ms in {len(layers)} layers, the slowest:"
        for name, ms in sorted(layers.items(), key=lambda row: -row[1])[:SHOWN]:
            yield f"  {ms:9.4f} ms  {name[:100]}"
    yield from report["notes"]


if __name__ == "__main__":
    sys.exit(main())
