"""`python3 run_on_device.py`: the goldens answered by the engines, compared and timed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from edgevlm.compiler.errors import UsageFault
from edgevlm.runtimes.tensorrt.on_device.answers import (
    AnswerCheck,
    check_answers,
    failure_of,
    notes_of,
)
from edgevlm.runtimes.tensorrt.on_device.calling import common_options, finish
from edgevlm.runtimes.tensorrt.on_device.goldens import check_parts
from edgevlm.runtimes.tensorrt.on_device.own_picture import answer_own
from edgevlm.runtimes.tensorrt.on_device.plan import Plan, read_plan
from edgevlm.runtimes.tensorrt.on_device.session import Session, open_session
from edgevlm.runtimes.tensorrt.on_device.tensors import Tensors
from edgevlm.runtimes.tensorrt.on_device.timing import SEEN_ONLY, Times, ask

__all__ = ["main"]

LAYER_RUNS = 20
AGAIN = "python3 build_on_device.py --rebuild; if it stays so, compile without the scheme at fault"
SHOWN = 15  # slowest layers of a part


def main(argv: Sequence[str] | None = None, bundle: Path | None = None) -> int:
    """0 if the engines answer as the host's reference did, 1 or 2 if not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Answer the goldens of this bundle, and time it.")
    common_options(parser, bundle)
    add = parser.add_argument
    add("--image", type=Path, help="a picture of your own, in place of the goldens")
    add("--prompt", help="what is asked about it")
    add("--goldens", type=_count, metavar="N", help="the first N questions only")
    add("--runs", type=_count, default=10, metavar="N", help="timed answers a question (10)")
    add("--no-graph", action="store_true", help="decode without a CUDA graph")
    add("--no-build", action="store_true", help="fail where an engine is missing")
    add("--layers", action="store_true", help="time parts and their layers on the GPU itself")
    add("--parts-only", action="store_true", help="compare parts, ask nothing")
    args = parser.parse_args(argv)
    return finish(lambda: _work(args), _lines, args.json)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"{text} is no count from 1 to 1000000")
    return int(text)


def _work(args: argparse.Namespace) -> dict[str, Any]:
    plan = read_plan(args.bundle)
    if args.image or args.prompt is not None:
        return _own(plan, args)
    tensors = Tensors(plan.tensors)
    with open_session(plan, args) as session:
        checks = check_parts(session.plan.parts, session.parts, tensors)
        answers, times = ([], Times()) if args.parts_only else _ask_all(session, tensors, args)
        report = {
            **session.about(),
            "parts": [check.as_json() for check in checks],
            "answers": [answer.as_json() for answer in answers],
            "times": times.as_json(),
            "text": [*map(str, checks), *times.lines()],
            "notes": session.notes + notes_of(answers),
        }
        if args.layers:
            engines = session.parts.engines.items()
            report["gpu_ms"] = {
                role: float(np.median(engine.time_ms(LAYER_RUNS))) for role, engine in engines
            }
            report["layers"] = {role: engine.layer_ms(LAYER_RUNS) for role, engine in engines}
        return {**report, "failed": failure_of(checks, answers, AGAIN)}


def _own(plan: Plan, args: argparse.Namespace) -> dict[str, Any]:
    if not args.image or not plan.is_whole:
        raise UsageFault(
            "EV411",
            "--prompt without --image" if plan.is_whole else "--image of a bundle of some parts",
            "half a request cannot be answered",
            "--image PICTURE --prompt QUESTION, of a bundle that has every part",
        )
    with open_session(plan, args) as session:
        own = answer_own(session, args.image, args.prompt)
        return {**session.about(), "own": own, "notes": session.notes}


def _ask_all(
    session: Session, tensors: Tensors, args: argparse.Namespace
) -> tuple[list[AnswerCheck], Times]:
    """Every golden once for the answer, which also warms up, and `runs` times by the clock.

    Where only vision and connector are here, pictures are looked at, and nothing is answered.
    """
    plan, parts, times = session.plan, session.parts, Times()
    kind = plan.kind if plan.is_whole else SEEN_ONLY
    if kind == SEEN_ONLY and not {"vision", "connector"} <= set(parts.engines):
        return [], times
    answers = check_answers(plan, parts, tensors, args.goldens) if plan.is_whole else []
    for i in range(len(plan.goldens[: args.goldens])):
        asked = (plan.contract, parts, kind, *tensors.request(i), plan.eos_ids)
        if kind == SEEN_ONLY:
            ask(*asked)  # warms up, as a comparison does
        for _ in range(args.runs):
            times.add(ask(*asked)[1])
    return answers, times


def _lines(report: dict[str, Any]) -> Iterator[str]:
    if "own" in report:
        yield from _own_lines(report["own"])
        return
    yield f"{report['library']} {report['version']}, {report['cc']}, bundle for {report['device']}"
    yield from report["text"]
    if report["answers"]:
        equal = sum(a["token_ids"] == a["wanted"] for a in report["answers"])
        yield f"{equal} of {len(report['answers'])} goldens answered alike, token for token"
    for role, layers in report.get("layers", {}).items():
        whole, apart = report["gpu_ms"][role], sum(layers.values())
        yield f"{role}: {whole:.3f} ms; {apart:.3f} ms in {len(layers)} layers one by one, of which"
        for name, ms in sorted(layers.items(), key=lambda row: -row[1])[:SHOWN]:
            yield f"  {ms:9.4f} ms  {name[:100]}"
    yield from (f"note: {note}" for note in report["notes"])


def _own_lines(own: dict[str, Any]) -> Iterator[str]:
    if "answer" in own:
        yield own["answer"]
    for row in own.get("classes", ()):
        logit = "not finite" if row["logit"] is None else f"{row['logit']:.3f}"
        yield f"class {row['class']}  {logit}"
    if own.get("map"):
        yield f"a map of {own['map']}"
    for stage, seconds in own["seconds"].items():
        yield f"{stage:<12} {1000 * sum(seconds):9.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
