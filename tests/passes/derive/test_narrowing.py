"""Images are held out class by class, and what was seen of a class serves every set with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.memo import ROOM, Memo
from edgevlm.compiler.reference import shown
from edgevlm.passes.derive import narrowing
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.derive.narrowing import SEVERAL, images_of, peak
from edgevlm.passes.derive.sums import see


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=60))
def test_every_fourth_of_each_class_is_held_out(labels):
    feeds = [{"x": np.array([i])} for i in range(len(labels))]
    found = images_of(feeds, labels)
    each = [[int(f["x"][0]) for f in (*some.held, *some.fit)] for some in found]
    assert sorted(i for numbers in each for i in numbers) == list(range(len(labels)))
    several = {label for label, n in Counter(labels).items() if n >= SEVERAL}
    assert len(found) == len(several) + (len(several) < len(set(labels)))
    for some, numbers in zip(found, each, strict=True):
        mine = {labels[i] for i in numbers}
        assert len(mine) == 1 or not mine & several
        assert len(some.held) == -(-len(numbers) // SEVERAL)


HEIGHTS = st.lists(st.sampled_from([-np.inf, 1.0, 2.0, 3.0, 4.0]), min_size=1, max_size=9)


@given(HEIGHTS, st.data())
def test_a_peak_is_not_lower_than_what_is_beside_it(heights, data):
    first = data.draw(st.integers(0, len(heights) - 1))
    asked: list[int] = []
    at = peak(lambda i: asked.append(i) or heights[i], first, len(heights))
    assert len(asked) == len(set(asked))
    if at is None:
        assert set(heights[first:]) == {-np.inf}
        return
    assert heights[at] == max(heights[max(0, at - 1) : at + 2]) > -np.inf


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9, unique=True), st.data())
def test_of_one_hill_the_top_is_found(heights, data):
    top = data.draw(st.integers(0, len(heights)))
    rising = sorted(heights)
    hill = sorted(rising[:top]) + sorted(rising[top:], reverse=True)
    first = data.draw(st.integers(0, len(hill) - 1))
    assert hill[peak(hill.__getitem__, first, len(hill))] == max(hill)


@pytest.fixture
def looks(monkeypatch):
    """Images of each look, as they are taken."""
    real, taken = narrowing.see, []

    def see(part, signature, feeds):
        taken.append(len(feeds))
        return real(part, signature, feeds)

    monkeypatch.setattr(narrowing, "see", see)
    return taken


@pytest.fixture(scope="module")
def by_class(pictures):
    """64 pictures by the class that the micro chooser takes them for: three have several."""
    found: dict[str, list] = {}
    for probe in pictures(64):
        found.setdefault(probe.truth, []).append(probe)
    return {name: some for name, some in found.items() if len(some) >= SEVERAL}


def derived(model, probes, memo=None, **options):
    step = NarrowEncoder(**{"alpha": 0.3, "multiple": 2} | options)
    step.calibration = shown(model, probes)
    step.memo = memo or Memo()
    return step(model)


def weights(model):
    graph = model.parts["vision"].graph
    return {name: value.const_value.numpy() for name, value in graph.initializers.items()}


def test_sets_that_share_a_class_look_at_it_once_and_nothing_else_changes(
    classifier, by_class, looks
):
    a, b, c, *_ = by_class
    shared = Memo(ROOM)
    found, alone = [], []
    for names, new in (((a, b), (a, b)), ((b, c), (c,)), ((c, a), ())):
        probes = [probe for name in names for probe in by_class[name]]
        looks.clear()
        found.append(weights(derived(classifier, probes, Memo(ROOM, base=shared)).model))
        assert sum(looks) == sum(len(by_class[name]) for name in new)
        looks.clear()
        alone.append(weights(derived(classifier, probes).model))
        assert sum(looks) == len(probes)  # with no memo each is looked at once all the same
    for mine, theirs in zip(found, alone, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_other_pictures_of_a_class_are_looked_at(classifier, by_class, looks):
    name = max(by_class, key=lambda name: len(by_class[name]))
    some, shared = by_class[name], Memo(ROOM)
    derived(classifier, some, Memo(ROOM, base=shared))
    looks.clear()
    derived(classifier, some[1:], Memo(ROOM, base=shared))
    assert sum(looks) == len(some) - 1


def test_energies_that_make_the_same_heads_are_tried_once(classifier, by_class, monkeypatch):
    """On a plateau neither neighbour is better, and the hill would not be seen."""
    step = NarrowEncoder(alpha=0.2, multiple=2)
    step.calibration = shown(classifier, [probe for some in by_class.values() for probe in some])
    found, tried = step._narrowing(classifier), []
    real = narrowing.Narrowing.heads

    def heads(self, energy):
        made = real(self, energy)
        tried.append((energy, tuple(new for _, new in made[1])))
        return made

    monkeypatch.setattr(narrowing.Narrowing, "heads", heads)
    found.best(lambda _: 10**9)
    assert len({widths for _, widths in tried}) == len(tried) == len({e for e, _ in tried}) > 1
    whole = [found.heads(energy)[1] for energy in narrowing.ENERGIES]
    assert len({tuple(new for _, new in cuts) for cuts in whole}) < len(whole)


def test_heads_that_need_few_channels_for_everything_are_tried_whole_as_well(
    classifier, by_class, monkeypatch
):
    """Of a head of low rank all energies ask for the same width, and 1 for none to go."""
    step = NarrowEncoder(alpha=0.2, multiple=2)
    step.calibration = shown(classifier, [probe for some in by_class.values() for probe in some])
    monkeypatch.setattr(narrowing, "head_widths", lambda *_: [2, 2])
    assert step._narrowing(classifier)._energies == [1.0, narrowing.ENERGIES[1]]


def test_the_order_of_units_is_that_of_the_trials(classifier, by_class, monkeypatch):
    """Found once, on images that no trial is judged by, also where no trial is made."""
    real, grams = narrowing.eliminate, []

    def eliminate(weights, gram):
        grams.append(gram)
        return real(weights, gram)

    monkeypatch.setattr(narrowing, "eliminate", eliminate)
    probes = [probe for some in by_class.values() for probe in some]
    step = NarrowEncoder(alpha=0.3, multiple=2)
    step.calibration = shown(classifier, probes)
    found, macs = step._narrowing(classifier), step._budget(classifier)[1]
    energy = found.best(lambda _: macs)
    fit = [feed for each in found.images for feed in each.fit]
    sums = see(found.part, found.signature, fit)
    for gram in grams:
        n = len(gram)
        assert any(np.allclose(gram, s.h[:n, :n]) for s in sums.values() if len(s.h) >= n)
    tried = len(grams)
    searched = weights(step(classifier).model)
    assert tried and len(grams) == 2 * tried
    told = weights(derived(classifier, probes, energy=energy).model)
    assert searched.keys() == told.keys() and len(grams) == 3 * tried
    assert all(np.array_equal(searched[name], told[name]) for name in told)


def test_answers_of_a_vlm_are_no_classes(tiny_model, tiny_probes, looks):
    """As many looks as there are shares of one class, whatever was answered."""
    some = [replace(p, truth=f"answer {i % 2}") for i, p in enumerate(tiny_probes[:8])]
    derived(tiny_model, some, alpha=0.1, energy=1.0)
    assert looks == [6, 2]
