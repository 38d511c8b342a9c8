"""What token reduction saves where it matters: 576 image tokens, SmolLM2-135M behind them.

    python benchmarks/bench_llava.py        writes results/llava.json        (about an hour)

The model is that of llava_shape.py. Every method at every budget: time to first token behind the
vision tower, milliseconds a decoded token, bytes of the KV cache, and, where a site lies inside the
tower, the tower itself. The selector runs inside the parts that are timed. Each case takes turns
with the unpruned model in one run, once more where its ratios are far apart; a stopped run goes on
where it was.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_reduction import cases, on_its_probes, recipe_of, reduced
from llava_shape import write_checkpoint
from results import write_result

from edgevlm.commands.payoff import unpruned
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import Trace, encode_image, generate
from edgevlm.compiler.reference import Reference
from edgevlm.devices.stats import middle
from edgevlm.models.source import SourceOptions, open_source
from edgevlm.runtimes import find_runtime

TURNS = 4
WIDE = 1.35  # largest ratio over the smallest of these turns
NEW_TOKENS = 5
PROMPT = SourceOptions(max_prompt=48, max_answer=16)
WORDS = (list(range(100, 108)), list(range(200, 230)))  # ids in front of and behind the image


class Runner:
    """One model's parts, opened; `once` gives milliseconds by stage."""

    def __init__(self, model: ExportedModel, folder: Path, tower: bool) -> None:
        parts = {r: p for r, p in model.parts.items() if tower or r != "vision"}
        runtime = find_runtime("ort")
        artifacts = runtime.lower(replace(model, parts=parts), folder)
        self.contract, self.tower = model.contract, tower
        self.parts: PartCaller = runtime.open_artifacts(folder, artifacts, model.contract)
        rng = np.random.default_rng(0)
        rows = (1, model.contract.vision_tokens, model.contract.vision_width)
        self.features = rng.normal(size=rows).astype(np.float32)
        side = (model.contract.image_height, model.contract.image_width)
        self.pixels = rng.normal(size=(1, 3, *side)).astype(np.float32)

    def call(self, role: str, feeds: Any) -> dict[str, np.ndarray]:
        if role == "vision" and not self.tower:
            return {"image_features": self.features}
        return self.parts.call(role, feeds)

    def once(self) -> dict[str, float]:
        trace = Trace()
        image = encode_image(self.contract, self, self.pixels, trace)
        tuple(generate(self.contract, self, image, *WORDS, (), max_new=NEW_TOKENS, trace=trace))
        ms = {name: 1000 * float(np.median(v)) for name, v in trace.seconds.items()}
        return {**ms, "behind_tower": ms["connector"] + ms["prefill"]}


def turns(after: Callable[[], Any], before: Callable[[], Any]) -> dict[str, Any]:
    """Milliseconds and ratios of both, turn about; the first of each is not counted."""
    after(), before()
    seen: list[tuple[dict[str, float], dict[str, float]]] = []
    for turn in range(TURNS):
        first, second = (after, before) if turn % 2 else (before, after)
        pair = (first(), second())
        seen.append(pair if turn % 2 else pair[::-1])
    stages = sorted(seen[0][0])
    return {
        stage: {
            "after_ms": middle([a[stage] for a, _ in seen]).median,
            "before_ms": middle([b[stage] for _, b in seen]).median,
            "speed": vars(middle([b[stage] / a[stage] for a, b in seen])),
        }
        for stage in stages
        if stage in seen[0][1]
    }


def main() -> None:
    checkpoint = cache_root() / "llava-shape"
    made_of = checkpoint / "made-of.json"
    if not made_of.exists():
        made_of.write_text(json.dumps(write_checkpoint(checkpoint)))
    source = open_source(str(checkpoint), PROMPT)
    store = cache_root() / "llava-times"
    store.mkdir(exist_ok=True)
    seen, base = on_its_probes(source), unpruned(source, recipe_of(source, None, None))
    rows = []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        plain = {False: Runner(base, Path(one), False), True: Runner(base, Path(two), True)}
        for name, share in (c for c in cases() if ":" not in c[0] or c[0].endswith("=0")):
            file = store / f"{name}-{share}.json"
            if not file.exists():
                file.write_text(json.dumps(_case(source, seen, name, share, plain)))
            rows.append(json.loads(file.read_text()))
            print(name, share, rows[-1].get("refused") or _speed(rows[-1]), flush=True)
    write_result(
        "llava",
        {
            **json.loads(made_of.read_text()),
            "image_tokens": source.contract.image_tokens,
            "words": sum(map(len, WORDS)),
            "n": TURNS,
            "rows": rows,
        },
    )


def _case(
    source: ExportedModel,
    seen: Reference,
    name: str,
    share: str | None,
    plain: dict[bool, Runner],
) -> dict[str, Any]:
    model, facts = reduced(source, name, share, seen)
    if model is None:
        return facts
    tower = (
        model.contract.vision_kept is not None
        or model.contract.image_height != source.contract.image_height
        or share is None  # all tokens stay, and attention merges them for itself
    )
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(model, Path(folder), tower)
        facts["stages"] = turns(runner.once, plain[tower].once)
        if _spread(facts) > WIDE:  # somebody else was at work: once more, and that is kept
            facts["stages"] = turns(runner.once, plain[tower].once)
    facts["kv_bytes"] = {
        "before": image_tokens(source.contract)["kv_bytes"],
        "after": image_tokens(model.contract)["kv_bytes"],
    }
    return facts


def _spread(row: dict[str, Any]) -> float:
    ratio = row["stages"]["behind_tower"]["speed"]
    return ratio["high"] / ratio["low"]


def _speed(row: dict[str, Any]) -> str:
    return f"{row['stages']['behind_tower']['speed']['median']:.2f}x"


if __name__ == "__main__":
    main()
