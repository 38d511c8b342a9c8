"""DUET-VLM: its zip of few candidates, what words look at next, and budgets of its stages."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import Site


def rule(keep, share=35 / 205, width=4):
    """(index, content) of what the last block has seen: the card, a token at a time."""

    def zipped(seen, first):
        x, key, s = seen.exit[first:], seen.k.mean(0)[first:], seen.looked_at(first)
        unit = key / np.linalg.norm(key, axis=1, keepdims=True)
        few = min(max(1, round(share * keep)), keep - 1) if share and keep > 1 else 0
        ranked = np.argsort(-s, kind="stable").tolist()
        dominant, pool = ranked[: keep - few], ranked[keep - few :][: width * few]
        anchors = pool[:: max(1, len(pool) // few)][:few] if few else []
        content = {i: x[i] for i in dominant}
        near = {i: max(anchors, key=lambda t: unit[i] @ unit[t]) for i in pool}
        for t in anchors:
            joined = [x[i] for i in pool if i not in anchors and near[i] == t]
            content[t] = x[t] + (np.mean(joined, axis=0) if joined else 0)
        index = sorted(content)
        return np.array(index), np.array([content[i] for i in index])

    return zipped


def words_look(prompt, layer):
    """[N]: mean over heads and over the words behind the image."""
    return layer.share.mean(0)[prompt.words][:, prompt.image].mean(0)


@pytest.mark.parametrize(
    ("lead", "keep", "options"),
    [
        (1, 8, {}),
        (1, 1, {}),
        (1, 7, {"contextual": 0.45, "width": 2}),
        (1, 9, {"contextual": 0.3, "width": 1}),  # nobody is left to join an anchor
        (1, 13, {"contextual": 0.4, "width": 4}),  # the pool is all that is left, and shorter
        (0, 6, {"contextual": 0.5, "width": 3}),
    ],
)
def test_behind_the_encoder_it_is_the_cards(vit, make_micro, lead, keep, options):
    plain = make_micro(grid=(4, 5), tower=3, width=16, lead=lead)
    tower = vit.Vit.of_micro(plain)
    ask = vit.asking(vit.shortened(plain, "duet", {"vision-out": keep}, **options))
    card = {"share": options.get("contextual", 35 / 205), "width": options.get("width", 4)}
    for seed in range(5):
        pixels = vit.picture(plain, seed)
        rows, index = tower.reduced(pixels, 3, rule(keep, **card))
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist() and len(index) == keep
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)


def test_most_of_the_rest_leaves_nothing_behind(put_in, small):
    """20 tokens, 6 kept, 4 candidates: what is in neither may be anything."""
    placed = put_in(small(), "duet", "vision-out", 6, spy=True)
    out = placed.run(placed.rows(0))
    content, tokens, index = (out[f"spy/{n}"] for n in ("content", "tokens", "index"))
    added = content - tokens[index]
    (anchor,) = np.flatnonzero(np.abs(added).sum(1))
    outside = np.setdiff1d(np.arange(20), index)
    three = [np.array(g) for g in combinations(outside, 3)
             if np.allclose(tokens[list(g)].mean(0), added[anchor], atol=1e-5)]  # fmt: skip
    assert len(three) == 1, "it is the mean of three of the fourteen others"


@pytest.mark.parametrize("keep", [2, 7, 15])
def test_without_candidates_it_is_visionzip(put_in, small, keep):
    """width = 0: all that is left, in raster order."""
    wide = put_in(small(), "duet", "vision-out", keep, spy=True, width=0, contextual=10 / 64)
    other = put_in(small(), "visionzip", "vision-out", keep, spy=True)
    for seed in range(3):
        a, b = (placed.run(placed.rows(seed)) for placed in (wide, other))
        np.testing.assert_array_equal(a["spy/index"], b["spy/index"])
        np.testing.assert_array_equal(a["spy/content"], b["spy/content"])


@pytest.mark.parametrize(("depth", "keep"), [(0, 5), (1, 1), (1, 12)])
def test_inside_the_language_model_words_of_the_next_layer_choose(in_micro, llama, depth, keep):
    for seed in range(4):
        got = in_micro("duet", f"llm:{depth}", keep, seed)
        score = words_look(got.prompt, got.trace.layers[depth])
        assert len(got.index(depth)) == keep and llama.is_top(got.index(depth), score)


def test_the_last_word_alone_would_choose_otherwise(in_micro, llama):
    """The test above can fail."""
    wrong = 0
    for seed in range(4):
        got = in_micro("duet", "llm:1", 12, seed)
        share = got.trace.layers[1].share.mean(0)
        wrong += not llama.is_top(got.index(1), share[got.prompt.words][-1, got.prompt.image])
    assert wrong


def test_all_words_behind_the_image_count_and_idle_rows_do_not(in_micro):
    kept = [in_micro("duet", "llm:1", 5, asked=n).index(1).tolist() for n in range(5)]
    assert METHODS["duet"].text_aware and len({tuple(k) for k in kept}) > 1
    assert in_micro("duet", "llm:1", 5, idle=50.0).index(1).tolist() == kept[0]


def test_the_second_stage_asks_the_last_layer_of_what_is_left(in_micro, llama):
    """Its queries are all there, also where only one row of what it adds is read."""
    for seed in range(3):
        got = in_micro("duet", "llm:1,llm:2", (9, 4), seed)
        score = words_look(got.prompt, got.trace_behind(1).layers[2])
        left = got.index(1)
        assert len(got.index(2)) == 4 and llama.is_top(got.index(2), score[left])


def sites_of(layers):
    return [str(s) for s in METHODS["duet"]().default_sites(layers, 12)]


def test_sites_are_at_the_published_shares_of_the_depth():
    assert sites_of(32) == ["vision-out", "llm:16", "llm:24"]
    assert sites_of(28) == ["vision-out", "llm:14", "llm:21"]
    assert sites_of(4) == ["vision-out", "llm:2", "llm:3"]
    assert sites_of(2) == ["vision-out", "llm:1"] and sites_of(1) == ["vision-out"]


def test_published_budgets():
    """192 and 128 tokens in the mean over 32 layers: 307 or 205 behind the encoder."""
    duet = METHODS["duet"]()
    sites = duet.default_sites(32, 24)
    for mean, first in ((192, 307), (128, 205)):
        kept = duet.budgets(576, mean, sites)
        assert kept == [first, first // 2, 0]
        layers = [16, 8, 8]
        assert np.average(kept, weights=layers) == pytest.approx(mean, abs=0.5)
    assert round(duet.options.contextual * 205) == 35
    half = duet.budgets(576, 192, duet.default_sites(2, 24))  # one stage behind the words: 4/3, 2/3
    assert half == [256, 128] and np.mean(half) == 192


@given(st.integers(2, 3000), st.floats(0, 1), st.integers(1, 48))
def test_budgets_never_grow(count, share, layers):
    keep, duet = max(1, round(share * (count - 1))), METHODS["duet"]()
    for sites in (duet.default_sites(layers, 12), [Site.at("vision-out")], [Site.at("llm", 3)]):
        kept = duet.budgets(count, keep, sites)
        assert len(kept) == len(sites)
        assert all(count >= a >= b >= 0 for a, b in pairwise(kept))
        assert kept[0] >= keep and kept[0] <= count
        if len(sites) == 3:
            assert kept[2] == 0 and 1 <= kept[1] <= kept[0]


@pytest.mark.parametrize(("option", "value"), [("contextual", 1), ("width", -1), ("width", 1025)])
def test_options_it_refuses(option, value):
    with pytest.raises(UsageFault, match=option) as caught:
        METHODS["duet"](**{option: value})
    assert caught.value.code == "EV202"


def test_the_bundled_model_at_its_default_sites(in_tiny, llama):
    model, found = in_tiny("duet", "20,10,0")
    assert [(s.layer, s.tokens) for s in model.contract.sites] == [(2, 10), (3, 0)]
    assert model.contract.kept_image_tokens == 20
    for got in found:
        score = words_look(got.prompt, got.trace.layers[2])
        assert llama.is_top(got.index(2), score)
        assert len(got.index(2)) == 10


def test_the_bundled_model_behind_its_encoder(vit, in_encoder, tiny_vit):
    made, budgets, pictures = in_encoder("duet", "16", "vision-out")
    ask = vit.asking(made)
    for pixels in pictures:
        rows, index = tiny_vit.reduced(pixels, 4, rule(16))
        found = ask(pixels)
        assert budgets == {"vision-out": 16}
        assert found["image_index"].tolist() == index.tolist()
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)
