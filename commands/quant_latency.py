"""`--quant mixed:ms=N`: which layers stay float so that a first token takes N ms and loses least.

    cost[layer]   ms as float and as w8a8, measured node by node by the target's runtime
    loss[layer]   0 as float; as w8a8 the output error of its part, see `w8a8_losses`
    least sum of losses within the budget: compiler/budget.py, exact

The choice becomes rules of `quantize-weights` (method = "none"), so the recipe in the bundle says
it in full and needs no clock. Node times are those of a profiler: they are scaled so that they add
up to what a request takes without one. Decode is not counted; where it has the weights of prefill
it follows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from edgevlm.compiler.budget import allocate
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.compiler.reference import Reference
from edgevlm.passes import make_passes
from edgevlm.passes.quantize.layers import Layer, why_not
from edgevlm.passes.quantize.sensitivity import to_logits, w8a8_losses
from edgevlm.runtimes.base import Runtime

__all__ = ["Timed", "float_layers", "within_budget"]

ROLES: tuple[Role, ...] = ("vision", "connector", "prefill")  # in front of the first token
RUNS = 20
US = 1000  # costs are whole microseconds


@dataclass(frozen=True)
class Timed:
    """ms of a first token, and of each node in front of it."""

    whole: float
    nodes: dict[str, float]


def within_budget(recipe: Recipe, base: ExportedModel, seen: Reference, runtime: Runtime) -> Recipe:
    """The recipe with rules in place of a budget.

    base: the model before its first rounding; seen: what it does on the calibration inputs.
    """
    steps = list(recipe.steps)
    at = next(i for i, s in enumerate(steps) if s.options.get("budget_ms"))
    options = dict(steps[at].options)
    budget = float(options.pop("budget_ms"))
    steps[at] = Step(steps[at].name, options)
    rounding = [s for s in steps[at:] if s.name in ("quantize-weights", "quantize-activations")]
    passes = make_passes(Recipe(recipe.target, tuple(rounding)))
    stay = float_layers(base, seen, passes, runtime, budget)
    rules = [*options.get("layers", ()), *({"match": glob(n), "method": "none"} for n in stay)]
    steps[at] = Step(steps[at].name, options | ({"layers": rules} if rules else {}))
    return Recipe(recipe.target, tuple(steps))


def with_twins(base: ExportedModel, names: Sequence[str], least: int) -> list[str]:
    """And the layers of other parts that multiply with the same weights.

    least: elements of weights that are rounded at all.
    """
    keys = {
        f"{role}/{node.name}": Layer.of(node).key
        for role, part in base.parts.items()
        for node in part.graph
        if why_not(node, least, False) is None
    }
    float_keys = {keys[name] for name in names}
    return [name for name, key in keys.items() if key in float_keys]


def glob(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def float_layers(
    base: ExportedModel,
    seen: Reference,
    steps: Sequence[Pass],
    runtime: Runtime,
    budget_ms: float,
) -> list[str]:
    """PART/NODE of the layers that stay float, in all parts that hold their weights.

    base: the model before its first rounding, seen: on its calibration inputs; steps: what makes it
    w8a8. Raises EV202 where not even w8a8 throughout is as fast, or the runtime times no nodes.
    """
    model = base
    for step in steps:
        step.calibration = seen
        model = step(model).model
    was, now = (_timed(runtime, m, seen) for m in (base, model))
    if not was.nodes:
        raise _refused(budget_ms, f"runtime {runtime.name} does not time single layers")
    least_elements = next(s for s in steps if s.name == "quantize-weights").options.min_elements
    layers, loss = _losses(base, seen, least_elements)
    fresh = {role: _new_ms(role, was, now, layers) for role in ROLES}
    cost = [[_us(was, name), _us(now, name) + fresh[name.partition("/")[0]]] for name in layers]
    rest = round(US * was.whole) - sum(c[0] for c in cost)
    best = allocate([[0.0, x] for x in loss], cost, round(US * budget_ms) - rest)
    if best is None:
        least = (rest + sum(min(c) for c in cost)) / US
        raise _refused(budget_ms, f"with int8 wherever it is faster it takes {least:.2f} ms")
    stay = [name for name, i in zip(layers, best.choices, strict=True) if i == 0]
    return with_twins(base, stay, least_elements)


def _refused(budget_ms: float, why: str) -> UsageFault:
    return UsageFault("EV202", f"{budget_ms:g} ms to the first token", why, "give more time")


def _timed(runtime: Runtime, model: ExportedModel, seen: Reference) -> Timed:
    roles = [role for role in ROLES if role in model.parts]
    with tempfile.TemporaryDirectory() as folder:
        artifacts = [a for a in runtime.lower(model, Path(folder)) if a.role in roles]
        nodes = runtime.time_nodes(Path(folder), artifacts, RUNS)
        parts = runtime.open_artifacts(Path(folder), artifacts, model.contract)
        times = []
        for i in range(RUNS):
            feeds = seen.feeds[i % len(seen.feeds)]
            start = perf_counter()
            for role in roles:
                parts.call(role, feeds[role])
            times.append(1000 * (perf_counter() - start))
    whole = median(times)
    scale = whole / (sum(nodes.values()) or 1.0)
    return Timed(whole, {name: ms * scale for name, ms in nodes.items()})


def _losses(base: ExportedModel, seen: Reference, least: int) -> tuple[list[str], list[float]]:
    names, losses = [], []
    for role in (r for r in ROLES if r in base.parts):
        part = base.parts[role]
        found = [Layer.of(n) for n in part.graph if why_not(n, least, False) is None]
        layers = [layer for layer in found if layer.takes_rows]
        feeds = seen.fed(role)
        names += [f"{role}/{layer.node.name}" for layer in layers]
        follow = to_logits(base.parts, seen, role)
        losses += w8a8_losses(part, layers, feeds, follow) if layers else []
    return names, losses


def _new_ms(role: Role, was: Timed, now: Timed, layers: Sequence[str]) -> int:
    """Rounding of inputs, shared out among the layers of a part; us each."""
    mine = [name for name in layers if name.startswith(f"{role}/")]
    extra = sum(
        ms
        for name, ms in now.nodes.items()
        if name.startswith(f"{role}/") and name not in was.nodes
    )
    return round(US * extra / len(mine)) if mine else 0


def _us(timed: Timed, name: str) -> int:
    return round(US * timed.nodes.get(name, 0.0))
