"""SAD-TM: sources, targets and weighted means against loops over a float64 tower, and the prior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS


class Merging:
    """Between attention and MLP: the least important go into those most like them."""

    def __init__(self, first, keep, weight="importance", prior=None, beta=0.5):
        self.first, self.keep, self.weight = first, keep, weight
        self.prior, self.beta = prior, beta
        self.places = None  # of the tokens that come in, in the whole grid

    def __call__(self, seen, rows):
        lead, x, n = rows[: self.first], rows[self.first :], seen.sizes[self.first :]
        count, key = len(x), seen.k.mean(0)[self.first :]
        places = np.arange(count) if self.places is None else self.places
        paid = seen.looked_at(self.first)
        m = paid / paid.max()
        if self.prior is not None:
            o = (self.prior - self.prior.min()) / np.ptp(self.prior)
            m = (1 - self.beta) * m + self.beta * o[places]
        m = np.maximum(m, 1e-6)
        sources = np.argsort(m, kind="stable")[: count - self.keep].tolist()
        left = [i for i in range(count) if i not in sources]
        unit = key / np.linalg.norm(key, axis=1, keepdims=True)
        to = [max(left, key=lambda j: unit[i] @ unit[j]) if i in sources else i
              for i in range(count)]  # fmt: skip
        weights = m if self.weight == "importance" else n
        members = [[i for i in range(count) if to[i] == j] for j in left]
        x = np.array([np.average(x[g], axis=0, weights=weights[g]) for g in members])
        sizes = np.array([n[g].sum() for g in members])
        if self.weight == "importance":
            sizes = np.ones(len(x))
        self.index, self.owner = np.array(left), np.array([left.index(j) for j in to])
        self.left = places[self.index]
        return np.concatenate([lead, x]), np.concatenate([np.ones(self.first), sizes])


def merge(tower, pixels, budgets, **options):
    """(last stream, places left, slot that each token went into) of the float64 tower."""
    steps, before = {}, None
    for block, keep in budgets.items():
        step = Merging(tower.first, keep, **options)

        def at_its_turn(seen, rows, step=step, before=before):
            step.places = before.left if before else None
            return step(seen, rows)

        steps[block], before = at_its_turn, step
        steps[block].step = step
    rows = tower(pixels, steps)[-1].exit
    made = [s.step for s in steps.values()]
    owner = made[0].owner
    for step in made[1:]:
        owner = step.owner[owner]
    return rows, made[-1].left, owner


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """(path, numbers) of a prior for sixteen places."""
    numbers = np.random.default_rng(5).normal(size=16)
    path = tmp_path_factory.mktemp("prior") / "prior.npy"
    np.save(path, numbers)
    return str(path), numbers


@pytest.mark.parametrize(
    ("kind", "lead", "kept", "options"),
    [
        ("vlm", 1, (12, 9, 7), {}),
        ("vlm", 1, (10, 3), {"weight": "size"}),
        ("vlm", 0, (13, 6), {}),
        ("vlm", 1, (11, 8), {"prior": True, "beta": 0.7}),
        ("vlm", 1, (1,), {"prior": True, "beta": 1.0}),
        ("classifier", 1, (9,), {"prior": True, "beta": 0.0}),
        ("dense", 1, (12, 5), {"weight": "size"}),
        ("dense", 0, (6,), {}),
    ],
)
def test_it_is_the_cards_in_every_block(vit, make_micro, prior, kind, lead, kept, options):
    """In a dense model each token comes back as what became of the one it went into."""
    wide = {"grid": (4, 4), "tower": 3, "width": 16, "lead": lead}
    plain = make_micro(**wide) if kind == "vlm" else vit.plain_vit(kind, lead=lead)
    path, numbers = prior
    given_to = options | ({"prior": path} if "prior" in options else {})
    check = options | ({"prior": numbers} if "prior" in options else {})
    budgets = dict(enumerate(kept, start=3 - len(kept)))
    at = {f"vision:{b}": k for b, k in budgets.items()}
    ask, tower = (
        vit.asking(vit.shortened(plain, "sadtm", at, **given_to)),
        vit.Vit.of_micro(plain),
    )
    for seed in range(4):
        pixels = vit.picture(plain, seed)
        rows, index, owner = merge(tower, pixels, budgets, **check)
        if kind == "dense":
            rows = rows[np.concatenate([np.arange(lead), lead + owner])]
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist() and len(index) == kept[-1]
        got = found["image_features" if kind == "vlm" else "features"][0]
        np.testing.assert_allclose(got, rows, atol=1e-3, rtol=1e-3)


def test_weight_and_prior_matter(vit, prior):
    """The test above can fail; a prior of other places is another choice (the card's control)."""
    plain = vit.plain_vit()
    tower, pixels = vit.Vit.of_micro(plain), vit.picture(plain)
    rows, index, _ = merge(tower, pixels, {1: 8})
    assert np.abs(merge(tower, pixels, {1: 8}, weight="size")[0] - rows).max() > 1e-2
    chosen = [merge(tower, pixels, {1: 8}, prior=p, beta=0.7)[1].tolist()
              for p in (prior[1], prior[1][::-1])]  # fmt: skip
    assert chosen[0] != chosen[1] and index.tolist() not in chosen


def test_a_prior_of_no_weight_is_none(vit, prior):
    plain = vit.plain_vit()
    pixels = vit.picture(plain)
    made = [vit.asking(vit.shortened(plain, "sadtm", {"vision:1": 8}, **options))(pixels)
            for options in ({}, {"prior": prior[0], "beta": 0})]  # fmt: skip
    for name in made[0]:
        np.testing.assert_array_equal(made[0][name], made[1][name])


def test_a_planted_place_goes_first_and_another_last(vit, tmp_path):
    """beta = 1: whatever the picture shows."""
    plain, numbers = vit.plain_vit(), np.full(16, 0.5)
    numbers[[3, 7]] = 0.0, 1.0
    np.save(tmp_path / "planted.npy", numbers)
    at = {"prior": str(tmp_path / "planted.npy"), "beta": 1}
    for keep, expected in ((15, set(range(16)) - {3}), (1, {7})):
        ask = vit.asking(vit.shortened(plain, "sadtm", {"vision:1": keep}, **at))
        for seed in range(3):
            assert set(ask(vit.picture(plain, seed))["image_index"].tolist()) == expected


@given(st.integers(2, 300), st.integers(1, 32), st.floats(0, 0.99), st.floats(0, 1))
def test_sites_leave_the_first_blocks_alone_and_budgets_fall_evenly(count, blocks, skip, share):
    keep = max(1, round(share * (count - 1)))
    method = METHODS["sadtm"](skip=skip)
    sites = method.default_sites(1, blocks)
    depths = [s.depth for s in sites]
    assert depths == list(range(depths[0], blocks))
    assert depths[0] == min(round(skip * blocks), blocks - 1)
    kept = np.array([count, *method.budgets(count, keep, sites)])
    assert kept[-1] == keep and (np.diff(kept) <= 0).all()
    assert np.ptp(np.diff(kept)) <= 1.0 + 1e-9


def test_a_file_that_is_no_prior_is_refused(vit, tmp_path):
    path = tmp_path / "prior.npy"
    for array, why in ((np.zeros(15), "not 16 numbers"), (np.full(16, np.nan), "not finite")):
        np.save(path, array)
        with pytest.raises(UsageFault, match=why) as caught:
            vit.shortened(vit.plain_vit(), "sadtm", {"vision:1": 8}, prior=str(path))
        assert caught.value.code == "EV202" and "numpy.save" in caught.value.fix


def test_options_it_refuses():
    for option, value in (("beta", 1.1), ("weight", "none"), ("skip", 1), ("prior", "x" * 1025)):
        with pytest.raises(UsageFault, match=option) as caught:
            METHODS["sadtm"](**{option: value})
        assert caught.value.code == "EV202"


def test_the_bundled_model_at_its_default_sites(vit, in_encoder, tiny_vit):
    made, budgets, pictures = in_encoder("sadtm", "16")
    assert budgets == {"vision:1": 48, "vision:2": 32, "vision:3": 16}
    assert made.contract.kept_image_tokens == 16
    ask = vit.asking(made)
    for pixels in pictures:
        rows, index, _ = merge(tiny_vit, pixels, {1: 48, 2: 32, 3: 16})
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist()
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)
