"""`--latency-budget N`: a vision part that takes N ms on the target becomes one of so many MACs.

    table     the part at some widths of heads and hidden units, timed once on this host, cached
    settle    for each energy of heads that `narrow-encoder` tries, the units that the table affords
    trial     that very shape timed; over the budget, or well under: another budget for the table
    recipe    macs and energy in place of budget_ms, so that it needs no clock

The table is of the float part. Where the recipe rounds it behind that, what rounding does to the
whole part is measured and taken for all widths alike; trials go through all of it. The passes then
run as they would for numbers that somebody wrote, and the finished artifact is timed once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import onnx_ir as ir

from edgevlm.commands.part_clock import PartClock
from edgevlm.commands.width_prices import Prices, width_table
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.memo import Memo
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.compiler.reference import shown
from edgevlm.devices import Device
from edgevlm.passes import make_passes
from edgevlm.passes.derive.levels import with_units
from edgevlm.passes.derive.narrow_encoder import ROLE, NarrowEncoder, Settled
from edgevlm.passes.derive.narrow_units import TooWide
from edgevlm.runtimes.base import Runtime

__all__ = ["Latency", "budget_step", "check_timed_here", "settle_latency"]

TRIALS = 3
CLOSE = 0.95  # of the budget: nearer than that a trial is not worth another one
FED = 16  # inputs that runs take in turn


@dataclass(frozen=True)
class Latency:
    """A recipe without a clock in it, and how it came about."""

    recipe: Recipe
    budget_ms: float
    predicted_ms: float
    trial_ms: float | None  # of what was chosen; None where nothing is cut
    table: str  # "cached", "measured"
    clock: PartClock
    base: ir.Model

    def report(self, finished: PartCaller) -> dict[str, object]:
        """The finished artifact, in turns with the part as it was before anything was cut."""
        now, base = self.clock.beside(finished, self.base)
        return {
            "budget_ms": self.budget_ms,
            "predicted_ms": round(self.predicted_ms, 4),
            "trial_ms": self.trial_ms and round(self.trial_ms, 4),
            "measured_ms": round(now.ms, 4),
            "low_ms": round(now.low, 4),
            "high_ms": round(now.high, 4),
            "base_ms": round(base.ms, 4),
            "within": now.low <= self.budget_ms,
            "table": self.table,
            "n": now.n,
            "how": "measured-host",
        }

    def notes(self, report: Mapping[str, Any]) -> tuple[str, ...]:
        """What a person has to be told."""
        budget, now = f"{self.budget_ms:g} ms", f"{report['measured_ms']:.3g} ms"
        if self.trial_ms is None:
            return (f"the whole vision part is predicted within {budget}: nothing is cut",)
        if not report["within"]:
            tried = f"the same shape took {self.trial_ms:.3g} ms by its trial"
            return (f"the vision part takes {now}, not {budget}; {tried}",)
        return ()


def budget_step(recipe: Recipe) -> int | None:
    """Which step has a budget in ms for the vision part."""
    has = (i for i, s in enumerate(recipe.steps) if s.name == NarrowEncoder.name)
    return next((i for i in has if recipe.steps[i].options.get("budget_ms")), None)


def check_timed_here(recipe: Recipe, device: Device) -> None:
    """Raises EV251 for a budget on a machine that is not this one."""
    at = budget_step(recipe)
    if at is not None and not device.host:
        raise UsageFault(
            "EV251",
            f"{recipe.steps[at].options['budget_ms']:g} ms on {device.id}",
            "that is not this machine, and there is no table of what widths take on it",
            "--alpha 0.5  counts multiplications instead",
        )


def settle_latency(
    recipe: Recipe,
    model: ExportedModel,
    runtime: Runtime,
    *,
    inputs: Sequence[ProbeInput],
    probes: Callable[[ExportedModel], Sequence[ProbeInput]],
    memo: Memo,
) -> Latency:
    """model: as it is in front of the step with the budget; inputs: what that is fitted to.

    memo: of that step, which need not find out again what is found out here. Raises EV251 where the
    narrowest part takes longer.
    """
    at = budget_step(recipe)
    options = dict(recipe.steps[at].options)
    budget = float(options.pop("budget_ms"))
    options.pop("macs", None)
    step = NarrowEncoder(**options)
    step.calibration, step.memo = shown(model, inputs), memo
    part, behind = model.parts[ROLE], recipe.steps[at + 1 :]
    clock = PartClock(
        model, runtime, step.calibration.fed(ROLE)[:FED], _rest(recipe.target, behind, probes)
    )
    table, kept = width_table(clock, step.options.multiple)
    scale = clock.measure([part])[0].ms / table.whole_ms if behind else 1.0
    prices = Prices(table, scale, model.contract.signature(ROLE))
    if scale * table.whole_ms <= budget:
        chosen = {"alpha": 0.0, "energy": 1.0}
        predicted, trial_ms = scale * table.whole_ms, None
    else:
        try:
            settled = step.settle(model, prices.afford(budget))
            macs, made, trial_ms = _try(settled, prices, budget, clock, step.options.multiple)
        except TooWide:
            raise _beyond(budget, prices.least) from None
        chosen = Settled(macs, settled.energy, made).options
        predicted = prices.predict(made)
    steps = [*recipe.steps]
    steps[at] = Step(step.name, options | chosen)
    made_by = "cached" if kept else "measured"
    return Latency(
        Recipe(recipe.target, tuple(steps)), budget, predicted, trial_ms, made_by, clock, part
    )


def _try(
    settled: Settled, prices: Prices, budget: float, clock: PartClock, multiple: int
) -> tuple[int, ir.Model, float]:
    """The widest of some trials that is within the budget, or the fastest: macs, its shape, ms.

    A trial runs in turns with the whole part. What counts is the ratio of the two, since a machine
    that is slower for a minute is so for both, times the median of what the whole part took in the
    table and in all trials so far.
    """
    whole, took = clock.model.parts[ROLE], [prices.scale * prices.table.whole_ms]
    tried: list[tuple[int, ir.Model, float]] = []
    target = budget
    for _ in range(TRIALS):
        macs = prices.afford(target)(settled.part)
        try:
            part = with_units(settled.part, prices.signature, macs, multiple)
        except TooWide:
            if not tried:
                raise
            break
        if tried and count(part).macs == count(tried[-1][1]).macs:
            break
        now, beside = clock.measure([part, whole])
        took.append(beside.ms)
        ms = now.ms / beside.ms * median(took)
        tried.append((macs, part, ms))
        all_stay = count(part).macs == count(settled.part).macs
        if ms <= budget and (ms >= CLOSE * budget or all_stay):
            break
        target = budget * prices.predict(part) / ms
    within = [trial for trial in tried if trial[2] <= budget]
    return max(within, key=lambda t: t[0]) if within else min(tried, key=lambda t: t[2])


def _rest(
    target: str,
    steps: Sequence[Step],
    probes: Callable[[ExportedModel], Sequence[ProbeInput]],
) -> Callable[[ExportedModel], ExportedModel] | None:
    """What comes behind the step, for a model that is only timed."""
    if not steps:
        return None
    recipe = Recipe(target, tuple(steps))
    return lambda model: apply_unchecked(model, make_passes(recipe), probes(model))


def _beyond(budget: float, least: float) -> UsageFault:
    return UsageFault(
        "EV251",
        f"a vision part of {budget:g} ms",
        f"with the narrowest heads and hidden units that are tried it takes {least:.3g} ms",
        f"--latency-budget {math.ceil(110 * least) / 100:g}ms, or fewer image tokens first",
    )
