"""How much heads give is chosen by what strays least on pictures held out; budgets are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from micro.tower import tower_part

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.reference import observe, shown
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.derive.narrow_units import TooWide, narrow_units
from edgevlm.passes.derive.narrowing import SEVERAL
from edgevlm.passes.derive.purify_units import PurifyUnits
from edgevlm.passes.derive.sums import see


@pytest.fixture(scope="module")
def fit(pictures):
    return pictures(64)


@pytest.fixture(scope="module")
def seen(classifier, fit):
    return observe(classifier, fit)


def narrowed(model, seen, **options):
    step = NarrowEncoder(**{"multiple": 2} | options)
    step.calibration = seen
    return step(model)


def error(said, base, model, probes):
    wanted, got = said(base, probes), said(model, probes)
    return ((wanted - got) ** 2).sum() / (wanted**2).sum()


@pytest.mark.parametrize("alpha", [0.15, 0.3])
def test_the_chosen_energy_is_no_worse_than_any_on_what_it_was_chosen_by(
    classifier, fit, said, alpha
):
    """Every fourth of a class is held out of the search: fitted to the others, judged on those."""
    step = NarrowEncoder(alpha=alpha, multiple=2)
    step.calibration = observe(classifier, fit)
    macs = step._budget(classifier)[1]
    found = step._narrowing(classifier)
    chosen = found.best(lambda _: macs)
    rest = see(found.part, found.signature, [feed for each in found.images for feed in each.fit])
    held = [ProbeInput(f["pixel_values"]) for each in found.images for f in each.held]
    assert len(held) >= len(fit) / SEVERAL
    far = {}
    for energy in (chosen, 1.0, 0.95):
        clone = found.heads(energy)[0]
        try:
            narrow_units(clone, found.signature, rest, macs, found.how)
        except TooWide:
            continue
        far[energy] = error(said, classifier, classifier.with_parts(vision=clone), held)
    assert len(far) > 1 or chosen == 0.95
    assert far[chosen] <= min(far.values()) * (1 + 1e-6)


def test_heads_that_carry_little_give_more_than_those_that_do(classifier, fit, said):
    """A model whose second channel of every head is all but nothing: whole heads would be waste."""
    part = classifier.parts["vision"].clone()
    for name, value in part.graph.initializers.items():
        array = value.const_value.numpy().copy()
        if name[:2] in ("wq", "wk", "bq", "bk"):
            array.reshape(-1, 2, 8)[..., 2:] *= 1e-3
            value.const_value = type(value.const_value)(array, name=name)
    lean = classifier.with_parts(vision=part)
    seen = observe(lean, fit)
    best, whole = (narrowed(lean, seen, alpha=0.3, energy=e).model for e in (0.0, 1.0))
    assert error(said, lean, best, fit) < error(said, lean, whole, fit)


def test_the_more_goes_the_further_it_strays(classifier, seen, fit, said):
    """In macs at every step; in the error where steps are large."""
    alphas = (0.05, 0.2, 0.35, 0.5)
    made = [narrowed(classifier, seen, alpha=a, energy=0.95).model for a in alphas]
    macs = [count(m.parts["vision"]).macs for m in made]
    whole = count(classifier.parts["vision"]).macs
    assert macs == sorted(macs, reverse=True) and len(set(macs)) > 2
    assert all(have <= (1 - a) * whole for have, a in zip(macs, alphas, strict=True))
    errors = [error(said, classifier, m, fit) for m in made]
    assert errors[0] < errors[-1]


def test_one_more_multiplication_than_allowed_is_refused(classifier, seen):
    made = narrowed(classifier, seen, alpha=0.3).model
    have, whole = (count(m.parts["vision"]).macs for m in (made, classifier))
    step = NarrowEncoder(macs=have)
    step.ensures(classifier, made)
    with pytest.raises(UsageFault) as caught:
        NarrowEncoder(macs=have - 1).ensures(classifier, made)
    assert caught.value.code == "EV250" and f"{have / whole:.3f}" in caught.value.why


def test_what_is_small_enough_stays(classifier, seen):
    result = narrowed(classifier, seen, macs=10**9, energy=1.0)
    assert not result.changed and "under 1000000000" in result.notes[0].why


def test_alpha_counts_from_what_was_there_before_units_were_purified(classifier, seen, fit):
    """As NuWa has it: what purification took is part of what goes."""
    whole = count(classifier.parts["vision"]).macs
    part, step = classifier.parts["vision"], NarrowEncoder(alpha=0.3, multiple=2)
    smaller = narrowed(classifier, seen, alpha=0.2, energy=1.0).model
    step.original, step.calibration = classifier, observe(smaller, fit)
    have = count(step(smaller).model.parts["vision"]).macs
    assert 0.6 * whole < have <= 0.7 * whole and part is classifier.parts["vision"]
    assert NarrowEncoder.since == (PurifyUnits.name,)


def test_a_tower_of_a_vlm_is_narrowed_as_well(make_micro, ort):
    model = make_micro(tower=2, grid=(4, 4))
    c, rng = model.contract, np.random.default_rng(0)
    part = tower_part(c, 2, True, rng)
    model = replace(model, parts={**model.parts, "vision": part})
    feeds = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(8)]
    step = NarrowEncoder(alpha=0.3, multiple=2)
    step.calibration = shown(model, [ProbeInput(x) for x in feeds])
    made = step(model).model.parts["vision"]
    got = ort(made, pixel_values=feeds[0])["image_features"]
    assert got.shape == (1, 17, 16) and np.isfinite(got).all()
    assert count(made).macs <= 0.7 * count(part).macs
