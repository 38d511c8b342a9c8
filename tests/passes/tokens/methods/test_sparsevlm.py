"""SparseVLM against numpy: raters, their attention, density peaks of the best of the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.methods.sparsevlm import split_budget


def raters(llama, prompt):
    """bool [words]: they rate the picture above the mean of words."""
    image, words = prompt.x[prompt.image], prompt.x[prompt.words]
    looked = llama.softmax(image @ words.T).mean(0)
    found = looked > looked.mean()
    return found if found.any() else np.ones(len(found), bool)


def score(llama, prompt, layer):
    rows = prompt.words[raters(llama, prompt)]
    return layer.share[:, rows, prompt.image].mean((0, 1))


def score_two(llama, prompt, layer, model, heads):
    """SparseVLM+: over the attention of positions alone; by the heads that look at it most."""
    rows = prompt.words[raters(llama, prompt)]
    angle = prompt.positions[:, None] * model.speed
    ones = np.ones((1, len(prompt.x), model.dim))
    spun = model.rotate(ones, (np.tile(np.cos(angle), 2), np.tile(np.sin(angle), 2)))
    logits = spun @ spun.transpose(0, 2, 1) / np.sqrt(model.dim)
    alone = llama.softmax(np.where(llama.causal(len(prompt.x)), logits, -np.inf))
    paid = layer.share[:, rows, prompt.image]
    ratio = (paid / alone[:, rows, prompt.image]).mean(1)
    best = np.argsort(-paid.mean(1).sum(-1), kind="stable")[:heads]
    return ratio[best].mean(0)


def density_peaks(x, centres):
    """(centre rows, best first; the centre row each row belongs to), as the card says."""
    distance = np.sqrt(((x[:, None] - x) ** 2).sum(-1)) / np.sqrt(x.shape[1])
    density = np.exp(-(np.sort(distance, 1)[:, :centres] ** 2).mean(1))
    lead = np.full(len(x), distance.max())
    for i in range(len(x)):
        denser = [j for j in range(len(x)) if (density[j], -j) > (density[i], -i)]
        if denser:
            lead[i] = distance[i, denser].min()
    centre = np.argsort(-density * lead, kind="stable")[:centres]
    to = centre[distance[centre].argmin(0)]
    to[centre] = centre
    return centre, to


def expected(llama, prompt, tokens, s, keep, pool=0.3, clusters=0.1):
    """(places, content) ascending."""
    kept, size, centres = split_budget(len(s), keep, pool, clusters)
    order = np.argsort(-s, kind="stable")
    best, rest = order[:kept], order[kept : kept + size]
    centre, to = density_peaks(tokens[rest], centres) if centres else ([], [])
    found = {int(i): tokens[i] for i in best}
    found |= {int(rest[c]): tokens[rest[to == c]].mean(0) for c in centre}
    places = sorted(found)
    return np.array(places), np.array([found[i] for i in places])


@pytest.mark.parametrize(
    ("keep", "clusters"),
    [(k, {}) for k in (1, 2, 3, 8, 19)]
    + [(k, {"clusters": 0.5}) for k in (2, 8)]
    + [(k, {"clusters": 0.5, "pool": 1.0}) for k in (3, 8)],
    ids=str,
)
def test_version_one_is_the_cards(in_micro, llama, keep, clusters):
    for seed in range(4):
        got = in_micro("sparsevlm", "llm:2", keep, seed, asked=seed, after=4, spy=True, **clusters)
        trace = got.trace.layers
        s = score(llama, got.prompt, trace[1])
        tokens = trace[2].entry[got.prompt.image]
        places, content = expected(llama, got.prompt, tokens, s, keep, **clusters)
        assert got.index(2).tolist() == places.tolist()
        if keep > 1:
            np.testing.assert_allclose(got.out["spy/content"], content, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("heads", [0.25, 0.5, 1.0])
def test_version_two_divides_by_positions_alone(in_micro, llama, heads):
    for seed in range(4):
        options = {"version": "2", "heads": heads, "after": 4}
        got = in_micro("sparsevlm", "llm:2", 6, seed, asked=seed, **options)
        s = score_two(llama, got.prompt, got.trace.layers[1], got.llama, round(4 * heads))
        assert llama.is_top(got.index(2), s)


def test_no_clusters_and_pool_leave_the_best(in_micro, llama):
    got = in_micro("sparsevlm", "llm:2", 6, clusters=0.0, spy=True)
    assert llama.is_top(got.index(2), score(llama, got.prompt, got.trace.layers[1]))
    assert "spy/content" not in got.out


def test_mass_is_conserved_among_what_is_clustered(in_micro, llama):
    """T13: size x mean of clusters is the sum of what they stand for."""
    got = in_micro("sparsevlm", "llm:2", 8, pool=1.0, clusters=0.3, spy=True)
    sizes, content = got.out["spy/sizes"], got.out["spy/content"].astype(np.float64)
    kept, size, centres = split_budget(20, 8, 1.0, 0.3)
    assert (size, kept + centres) == (20 - kept, 8)
    assert sizes.sum() == kept + size == 20
    tokens = got.trace.layers[2].entry[got.prompt.image]
    np.testing.assert_allclose(
        (sizes[:, None] * content).sum(0), tokens.sum(0), rtol=1e-3, atol=1e-2
    )


@given(
    count=st.integers(2, 700),
    keep=st.integers(1, 700),
    pool=st.floats(0, 1),
    clusters=st.floats(0, 1),
)
def test_budgets_are_met_exactly_and_waste_no_token(count, keep, pool, clusters):
    keep = min(keep, count - 1)
    kept, size, centres = split_budget(count, keep, pool, clusters)
    assert kept + centres == keep and kept >= (keep + 1) // 2 and centres <= size <= count - kept
    if clusters > 0 and keep > 1:
        assert centres >= 1 and size == min(count - kept, int((count - kept) * pool) + 1)


def test_the_bundled_model_at_its_default_sites(in_tiny, llama):
    model, found = in_tiny("sparsevlm")
    assert [(s.layer, s.tokens) for s in model.contract.sites] == [(1, 32), (2, 16)]
    for got in found:
        trace = got.trace.layers
        s = score(llama, got.prompt, trace[0])
        places, _ = expected(llama, got.prompt, trace[1].entry[got.prompt.image], s, 32)
        assert got.index(1).tolist() == places.tolist()


def test_the_second_site_asks_the_same_raters(in_micro, llama):
    """At the first site nothing is merged here, so that what lies between is known by masking."""
    got = in_micro("sparsevlm", "llm:1,llm:2", (10, 4), clusters=0.0, after=4)
    layer = got.trace_behind(1).layers[1]
    behind = score(llama, got.prompt, layer)[got.index(1)]
    assert llama.is_top(got.index(2), behind)


def test_one_word_or_none_behind_the_image_is_the_rater(in_micro, llama):
    for after in (0, 1):
        got = in_micro("sparsevlm", "llm:2", 6, after=after)
        last = got.trace.layers[1].share.mean(0)[-1, got.prompt.image]
        order = np.argsort(-last, kind="stable")
        assert set(order[:5]) <= set(got.index(2).tolist())


def test_the_question_matters_and_padding_does_not(in_micro):
    kept = [in_micro("sparsevlm", "llm:2", 6, asked=n).index(2).tolist() for n in range(4)]
    assert METHODS["sparsevlm"].text_aware and len({tuple(k) for k in kept}) > 1
    assert in_micro("sparsevlm", "llm:2", 6, idle=50.0).index(2).tolist() == kept[0]


def test_it_refuses_what_it_cannot_have(in_micro):
    with pytest.raises(UsageFault, match="llm:1 is the first site"):
        in_micro("sparsevlm", "llm:0", 5)
    with pytest.raises(UsageFault, match="'version' of method sparsevlm"):
        METHODS["sparsevlm"](version="3")
