"""--latency-budget: against a clock that tells time by multiplications, once against a real one.

The clock of most tests takes FIXED + HEADS ms a million multiplications of heads, UNITS of hidden
units, so that what a budget affords is known exactly.
"""

from __future__ import annotations

import pytest

from edgevlm.commands.narrow_latency import budget_step, settle_latency
from edgevlm.commands.part_clock import PartClock, Taken
from edgevlm.compiler.axes import analyse
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.memo import Memo
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.compiler.structure import structure_digest
from edgevlm.passes import make_passes
from edgevlm.passes.derive.asked import parse_derived
from edgevlm.passes.derive.levels import spent
from edgevlm.passes.derive.mlps import find_mlps
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.quantize.asked import quant_steps
from edgevlm.runtimes import find_runtime

FIXED, HEADS, UNITS = 1.0, 0.2, 0.5


class Clock:
    """Stands in for PartClock's own; `wrong`: how much longer trials take than the table says."""

    def __init__(self, signature):
        self.signature, self.measured = signature, []
        self.wrong = self.slow = 1.0

    def ms(self, part):
        heads, units = spent(part, self.signature)
        return FIXED + (HEADS * heads + UNITS * units) / 1e6

    def measure(self, clock, parts):
        parts = list(parts)
        self.measured.append(len(parts))
        times = [self.slow * self.ms(part) for part in parts]
        if len(parts) == 2:
            times[0] *= self.wrong
        if clock.behind:  # what rounding would do
            times = [2 * ms for ms in times]
        return [Taken(ms, ms, ms, 1) for ms in times]


@pytest.fixture(scope="module")
def clean(tiny_model):
    return apply_unchecked(tiny_model, make_passes(compose("host-cpu", "ort", Flags())))


@pytest.fixture
def clock(clean, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    found = Clock(clean.contract.signature("vision"))
    monkeypatch.setattr(PartClock, "measure", lambda self, parts: found.measure(self, parts))
    return found


@pytest.fixture
def settle(clean, tiny_probes, clock):
    def run(ms, *behind, **options):
        step = Step("narrow-encoder", {"budget_ms": ms, "energy": 1.0, **options})
        recipe = Recipe("host-cpu", (step, *behind))
        made = settle_latency(
            recipe,
            clean,
            find_runtime("ort"),
            inputs=tiny_probes[:4],
            probes=lambda m: tiny_probes,
            memo=Memo(),
        )
        assert budget_step(made.recipe) is None
        return made

    return run


def mlps(model):
    return find_mlps(analyse(model.parts["vision"].graph, model.contract.signature("vision")))


def narrowed(made, clean, probes):
    return apply_unchecked(clean, make_passes(made.recipe), probes).parts["vision"]


@pytest.fixture
def whole(clean, clock):
    return clock.ms(clean.parts["vision"])


@pytest.mark.parametrize("share", [0.95, 0.8, 0.65])
def test_the_budget_is_met_and_used(settle, clock, clean, tiny_probes, whole, share):
    made = settle(share * whole)
    part = narrowed(made, clean, tiny_probes[:4])
    assert clock.ms(part) == pytest.approx(made.predicted_ms) == pytest.approx(made.trial_ms)
    eight_more = UNITS * 8 * sum(mlp.macs_a_unit for mlp in mlps(clean)) / 1e6
    assert share * whole - eight_more < clock.ms(part) <= share * whole


def test_less_time_leaves_less(settle, clean, tiny_probes, whole):
    left = [
        count(narrowed(settle(share * whole), clean, tiny_probes[:4])).macs
        for share in (0.95, 0.85, 0.75, 0.65)
    ]
    assert left == sorted(set(left), reverse=True)


def test_the_recipe_makes_the_same_graph_again_without_a_clock(
    settle, clean, tiny_probes, whole, clock
):
    made = settle(0.7 * whole, energy=0.0)
    clock.measured.clear()
    text = made.recipe.to_toml()
    again = Recipe.from_toml(text)
    first, second = (
        apply_unchecked(clean, make_passes(r), tiny_probes[:4]).parts["vision"]
        for r in (made.recipe, again)
    )
    assert "budget_ms" not in text and not clock.measured
    assert structure_digest(first) == structure_digest(second)
    weights = [
        {n: v.const_value.numpy().tobytes() for n, v in p.graph.initializers.items()}
        for p in (first, second)
    ]
    assert weights[0] == weights[1]
    assert clock.ms(first) <= 0.7 * whole
    (step,) = again.steps
    assert step.options["energy"] > 0 and step.options["macs"] >= count(first).macs


def test_a_table_is_measured_once(settle, clock, whole):
    assert settle(0.9 * whole).table == "measured"
    table, trial = clock.measured
    assert table > 6 and trial == 2
    assert settle(0.8 * whole).table == "cached"
    assert clock.measured[2:] == [2]


def test_another_shape_or_multiple_has_a_table_of_its_own(settle, clock, whole):
    settle(0.9 * whole)
    assert settle(0.9 * whole, multiple=16).table == "measured"


def test_a_table_that_is_wrong_is_made_up_for_by_trials(settle, clock, clean, tiny_probes, whole):
    for wrong in (1.3, 0.8):
        clock.wrong = wrong
        made = settle(0.75 * whole)
        part = narrowed(made, clean, tiny_probes[:4])
        true = wrong * clock.ms(part)
        assert made.trial_ms == pytest.approx(true)
        assert 0.95 * 0.75 * whole < true <= 0.75 * whole


def test_a_trial_counts_by_its_ratio_to_the_whole_part(settle, clock, whole):
    """All takes 0.96 of what the table says in the minute of the trial: it counts as 0.98."""
    settle(0.75 * whole)  # the table
    clock.slow = 0.96
    made = settle(0.75 * whole)
    assert clock.measured[-2:] == [2, 2], "one trial each"
    assert made.trial_ms == pytest.approx(0.98 * made.predicted_ms)


def test_a_machine_that_stays_slower_gets_less_work(settle, clock, whole):
    before = settle(0.75 * whole)
    clock.slow = 1.2
    after = settle(0.75 * whole)
    assert after.trial_ms <= 0.75 * whole and after.predicted_ms < before.predicted_ms


def test_what_no_trial_reaches_is_told(settle, clock, whole):
    clock.wrong = 50.0
    made = settle(0.75 * whole)
    assert made.trial_ms > 0.75 * whole
    report = {"measured_ms": made.trial_ms, "within": False}
    (note,) = made.notes(report)
    assert f"not {0.75 * whole:g} ms" in note and "by its trial" in note


def test_a_budget_that_is_met_already_cuts_nothing(settle, clock, clean, tiny_probes, whole):
    made = settle(whole)
    assert narrowed(made, clean, tiny_probes[:4]) is clean.parts["vision"]
    assert made.trial_ms is None and made.predicted_ms == pytest.approx(whole)
    (note,) = made.notes({"measured_ms": 9.0, "within": False})
    assert "nothing is cut" in note


def test_a_budget_beyond_the_narrowest_is_refused_with_the_least_time(settle, clock):
    with pytest.raises(UsageFault) as caught:
        settle(FIXED)
    assert caught.value.code == "EV251"
    said = float(caught.value.fix.split("ms")[0].rpartition(" ")[2])
    clock.measured.clear()
    assert settle(said).trial_ms <= said


def test_rounding_behind_it_is_timed_as_well(settle, clock, clean, tiny_probes, whole):
    """The clock says that it doubles all times: the same shape as of half the budget."""
    behind = [s for s in quant_steps("w8") if s.name == "quantize-weights"]
    twice = settle(1.6 * whole, *behind)
    once = settle(0.8 * whole)
    assert twice.recipe.steps[0] == once.recipe.steps[0]
    assert twice.predicted_ms == pytest.approx(2 * once.predicted_ms)
    assert settle(2.0 * whole, *behind).recipe.steps[0].options["alpha"] == 0


@pytest.mark.parametrize("text", ["0ms", "0.0s", "5", "-5ms", "ms", "5 m", "nan ms", "1e3ms", ""])
def test_what_is_no_time(text):
    with pytest.raises(UsageFault) as caught:
        parse_derived(None, None, text)
    assert caught.value.code == "EV250" and "5ms" in caught.value.fix


@pytest.mark.parametrize(("text", "ms"), [("5ms", 5), ("0.25 ms", 0.25), ("1.5s", 1500)])
def test_a_time_becomes_an_option_and_no_share(text, ms):
    (step,) = parse_derived(None, None, text).steps()
    assert step == Step("narrow-encoder", {"budget_ms": ms})


def test_a_pass_has_no_clock(clean, tiny_probes):
    with pytest.raises(UsageFault) as caught:
        apply_unchecked(
            clean, make_passes(Recipe("cpu", (Step("narrow-encoder", {"budget_ms": 5.0}),)))
        )
    assert caught.value.code == "EV202" and "--latency-budget" in caught.value.fix
