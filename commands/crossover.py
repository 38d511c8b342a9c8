"""From how many image tokens on does a schedule pay? Measured on the model at several sizes.

Connector and language model take any number of image tokens: the axis analysis makes them of
another length. At each size the same share of tokens is kept, and what stands between the encoder
and the first token (connector, selector, prefill) is timed turn about with and without. What the
recipe does behind its token steps (quantisation) is done at each size, on noise in the encoder's
place: the ranges that it finds mean nothing, and take no other time.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgevlm.commands.sweep_timing import turn_about
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import encode_image, generate
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.passes import make_passes
from edgevlm.passes.derive.asked import DERIVE_STEPS
from edgevlm.passes.tokens.scale import scaled
from edgevlm.runtimes.base import Runtime

__all__ = ["TOKEN_STEPS", "find_crossover"]

FACTORS = (0.25, 0.5, 1, 2, 4)
REQUESTS = 11
LEAST = 4  # tokens
#: passes that make no sense of a model that keeps all its tokens
TOKEN_STEPS = ("keep-tokens", "resize-image", "merge-attention")


def find_crossover(
    source: ExportedModel, recipe: Recipe, runtime: Runtime, probes: Sequence[ProbeInput]
) -> dict[str, Any]:
    """Ratios by N, and the smallest measured N from which all ratios are surely below 1.

    Sites inside the vision encoder fix the grid, so for them there is a reason in place of figures.
    """
    steps = [s for s in recipe.steps if s.name == "keep-tokens"]
    reason = None
    if source.contract.kind != "vlm" or len(steps) < len(_token_steps(recipe)):
        reason = "only sites behind the connector can be measured at other sizes"
    if any(str(s.options.get("at", "connector-out")).startswith("vision") for s in steps):
        reason = "the encoder's grid is fixed by its position table"
    if reason:
        return {"sizes": [], "pays_from": None, "reason": reason}
    first, behind = _around(recipe)
    plain = apply_unchecked(source, make_passes(Recipe("", first)), probes)
    count, rows = plain.contract.image_tokens, []
    for size in sorted({max(LEAST, round(count * f)) for f in FACTORS}):
        try:
            rows.append(_at_size(plain, (steps, behind), size, runtime, probes))
        except EdgeError as fault:  # a method that needs the real grid, a budget below its least
            rows.append({"tokens": size, "refused": str(fault)})
    if not any("ratio" in row for row in rows):
        return {"sizes": [], "pays_from": None, "reason": rows[-1]["refused"]}
    return {"sizes": rows, "pays_from": _pays_from(rows), "reason": None, "n": REQUESTS}


def _token_steps(recipe: Recipe) -> list[Step]:
    return [s for s in recipe.steps if s.name in TOKEN_STEPS]


def _around(recipe: Recipe) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Steps in front of the token steps, and behind them: features are given, so none derives."""
    at = [i for i, s in enumerate(recipe.steps) if s.name == "keep-tokens"]
    behind = tuple(s for s in recipe.steps[at[-1] + 1 :] if s.name not in DERIVE_STEPS)
    return recipe.steps[: at[0]], behind


def _pays_from(rows: list[dict[str, Any]]) -> int | None:
    found = None
    for row in reversed([r for r in rows if "ratio" in r]):
        if row["high"] >= 1:
            break
        found = row["tokens"]
    return found


def _at_size(
    plain: ExportedModel,
    steps: tuple[Sequence[Step], Sequence[Step]],
    size: int,
    runtime: Runtime,
    probes: Sequence[ProbeInput],
) -> dict[str, Any]:
    whole = scaled(plain, size)
    share = size / plain.contract.image_tokens
    tokens, behind = steps
    smaller = [
        replace(s, options={**s.options, "keep": _budget(s.options["keep"], share)}) for s in tokens
    ]
    pruned = apply_unchecked(whole, make_passes(Recipe("", tuple(smaller))))
    features = _features(plain, whole)
    whole, pruned = (
        apply_unchecked(_given(m, features), make_passes(Recipe("", tuple(behind))), probes)
        for m in (whole, pruned)
    )
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        asks = [
            _asker(model, runtime, Path(folder), features, probes)
            for model, folder in ((pruned, one), (whole, two))
        ]
        after, before, ratio = turn_about(*asks, n=REQUESTS, warmup=1)
    return {
        "tokens": size,
        "kept": pruned.contract.tokens_at(pruned.contract.layers - 1),
        "before_ms": round(before.ttft_ms, 4),
        "after_ms": round(after.ttft_ms, 4),
        "ratio": ratio.median,
        "low": ratio.low,
        "high": ratio.high,
    }


def _budget(keep: int, share: float) -> int:
    return keep and max(1, math.floor(keep * share + 0.5))


def _features(plain: ExportedModel, whole: ExportedModel) -> np.ndarray:
    """Noise of the right shape: how long choosing takes does not depend on what there is."""
    shape = (1, whole.contract.vision_tokens, plain.contract.vision_width)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _given(model: ExportedModel, features: np.ndarray) -> ExportedModel:
    """The model with an encoder that gives these features for every picture."""
    stub = model.parts["vision"].clone()
    build = GraphBuilder(stub, "noise")
    known = next(v for v in stub.graph.outputs if v.name == "image_features")
    noise = build("Identity", build.const(features, np.float32))
    known.name, noise.name = "unread", "image_features"
    stub.graph.outputs[list(stub.graph.outputs).index(known)] = noise
    build.finish()
    RemoveUnusedNodesPass()(stub)
    return model.with_parts(vision=stub)


def _asker(
    model: ExportedModel,
    runtime: Runtime,
    folder: Path,
    features: np.ndarray,
    probes: Sequence[ProbeInput],
) -> Callable[[int], dict[str, list[float]]]:
    used = replace(model, parts={r: p for r, p in model.parts.items() if r != "vision"})
    parts = runtime.open_artifacts(folder, runtime.lower(used, folder), model.contract)

    class Behind:
        """The parts behind the encoder, given features in its place."""

        def call(self, role: str, feeds: Any) -> dict[str, np.ndarray]:
            return {"image_features": features} if role == "vision" else parts.call(role, feeds)

    def ask(i: int) -> dict[str, list[float]]:
        probe, caller = probes[i % len(probes)], Behind()
        start = perf_counter()
        image = encode_image(model.contract, caller, probe.pixel_values)
        looked = perf_counter() - start
        trace = _first_token(model, caller, image, probe)
        return {"connector": [looked], **trace}

    return ask


def _first_token(
    model: ExportedModel, caller: PartCaller, image: Any, probe: ProbeInput
) -> dict[str, list[float]]:
    start = perf_counter()
    tuple(generate(model.contract, caller, image, probe.before, probe.after, (), max_new=1))
    return {"prefill": [perf_counter() - start]}
