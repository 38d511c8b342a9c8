"""Does dropping tokens pay on this target? Pruned against unpruned, measured turn about.

The selector's own time counts: it runs inside the parts that are timed. Both models went through
the same recipe but for its token steps, and both are run by the target's runtime. A schedule that
is measured slower than no pruning is refused (EV232) unless --force says otherwise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevlm.commands.crossover import TOKEN_STEPS, find_crossover
from edgevlm.commands.sweep_timing import turn_about
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import Trace, classify, encode_image, generate
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.recipe import Recipe
from edgevlm.devices.profiler import Profile
from edgevlm.devices.stats import Ratio
from edgevlm.passes import make_passes
from edgevlm.passes.derive.asked import TRAIN_STEPS
from edgevlm.runtimes.base import Runtime

__all__ = ["TOKEN_STEPS", "asker", "check_payoff", "measure_payoff", "stages", "unpruned"]

REQUESTS, WARM_UP, NEW_TOKENS = 20, 3, 4


def measure_payoff(
    original: ExportedModel,
    recipe: Recipe,
    runtime: Runtime,
    pruned: tuple[Contract, PartCaller],
    probes: Sequence[ProbeInput],
    *,
    asked: Sequence[ProbeInput] | None = None,
    crossover: bool = False,
    n: int = REQUESTS,
) -> dict[str, Any]:
    """ms a stage before and after, and the ratio of times to first token with its 95 %.

    asked: the probes as the pruned model takes them, where its pictures have another size.
    """
    plain = unpruned(original, recipe, probes)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = runtime.lower(plain, Path(folder))
        parts = runtime.open_artifacts(Path(folder), artifacts, plain.contract)
        after, before, ratio = turn_about(
            asker(*pruned, asked or probes),
            asker(plain.contract, parts, probes),
            n=n,
            warmup=WARM_UP,
        )
    report: dict[str, Any] = {
        "stages": stages(before, after),
        "first_token_ratio": vars(ratio),
        "pays": ratio.high < 1,
        "slower": ratio.low > 1,
        "kv_bytes": {
            "before": image_tokens(plain.contract).get("kv_bytes"),
            "after": image_tokens(pruned[0]).get("kv_bytes"),
        },
        "n": n,
        "how": "measured-host",
        "crossover": None,
    }
    if crossover:
        report["crossover"] = find_crossover(original, recipe, runtime, probes)
    return report


def unpruned(
    original: ExportedModel, recipe: Recipe, probes: Sequence[ProbeInput] = ()
) -> ExportedModel:
    """The source through a recipe without its token steps; probes for what fits ranges to them.

    Nor is anything trained: narrow-encoder alone comes to the same multiplications.
    """
    left_out = {*TOKEN_STEPS, *TRAIN_STEPS}
    steps = tuple(step for step in recipe.steps if step.name not in left_out)
    return apply_unchecked(original, make_passes(Recipe(recipe.target, steps)), probes)


def check_payoff(payoff: Mapping[str, Any], force: bool) -> None:
    """Raises EV232 for a schedule that was measured slower, unless `force`."""
    if not payoff["slower"] or force:
        return
    ratio = Ratio(**payoff["first_token_ratio"])
    worst = max(payoff["stages"].items(), key=lambda s: s[1]["after_ms"] - s[1]["before_ms"])
    raise JobFault(
        "EV232",
        f"this schedule makes the first token {ratio.median:.2f}x as slow (95 % "
        f"{ratio.low:.2f} - {ratio.high:.2f}) as no pruning on this target",
        f"{worst[0]} takes {worst[1]['after_ms']:.2f} ms instead of "
        f"{worst[1]['before_ms']:.2f}: choosing costs more than it saves",
        "fewer tokens, --prune dart or stride, or --force to keep it",
    )


def asker(
    contract: Contract, parts: PartCaller, probes: Sequence[ProbeInput]
) -> Callable[[int], dict[str, list[float]]]:
    """Asks probe i, NEW_TOKENS of an answer; seconds by stage."""

    def ask(i: int) -> dict[str, list[float]]:
        probe, trace = probes[i % len(probes)], Trace()
        if contract.kind != "vlm":
            classify(parts, probe.pixel_values, trace)
            return trace.seconds
        image = encode_image(contract, parts, probe.pixel_values, trace)
        words = (probe.before, probe.after, ())
        tuple(generate(contract, parts, image, *words, max_new=NEW_TOKENS, trace=trace))
        return trace.seconds

    return ask


def stages(before: Profile, after: Profile) -> dict[str, dict[str, float]]:
    """Medians of the stages both went through."""
    return {
        name: {
            "before_ms": round(before.stages[name].p50_ms, 4),
            "after_ms": round(after.stages[name].p50_ms, 4),
        }
        for name in after.stages
        if name in before.stages
    }
