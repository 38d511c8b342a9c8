"""V2Drop: its score is the norm of what attention and MLP of the layer in front add, recomputed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS


def added(prompt, layer):
    """[N,D]"""
    return (layer.attended + layer.mlp_out)[prompt.image]


def score(prompt, layer, norm="l2", relative=False):
    length = {"l2": lambda x: np.sqrt((x * x).sum(-1)), "l1": lambda x: np.abs(x).sum(-1)}[norm]
    change = length(added(prompt, layer))
    return change / length(layer.entry[prompt.image]) if relative else change


@pytest.mark.parametrize("keep", [1, 7, 19])
@pytest.mark.parametrize(
    "options", [{}, {"norm": "l1"}, {"relative": True}, {"norm": "l1", "relative": True}], ids=str
)
def test_it_keeps_what_the_layer_in_front_changed_most(in_micro, llama, keep, options):
    for seed in range(3):
        for depth in (1, 2):
            got = in_micro("v2drop", f"llm:{depth}", keep, seed, **options)
            expected = score(got.prompt, got.trace.layers[depth - 1], **options)
            assert llama.is_top(got.index(depth), expected)


def test_the_layer_behind_would_choose_otherwise(in_micro, llama):
    """The test can fail."""
    got = in_micro("v2drop", "llm:2", 7)
    assert not llama.is_top(got.index(2), score(got.prompt, got.trace.layers[2]))
    assert not llama.is_top(got.index(2), score(got.prompt, got.trace.layers[0]))


def test_the_bundled_model_at_its_default_sites(in_tiny, llama):
    model, found = in_tiny("v2drop", "8")
    sites = [(s.layer, s.tokens) for s in model.contract.sites]
    assert sites == [(1, 32), (2, 16), (3, 8)]
    for got in found:
        left = np.arange(64)
        for depth, _ in sites:
            layer = got.trace_behind(*(d for d, _ in sites if d < depth)).layers[depth - 1]
            assert llama.is_top(got.index(depth), score(got.prompt, layer)[left])
            left = left[got.index(depth)]


def test_the_choice_holds_for_any_question_and_any_padding(in_micro):
    """Image tokens stand in front of the words and do not see them."""
    kept = in_micro("v2drop", "llm:2", 6).index(2).tolist()
    for asked in ({"after": 1}, {"after": 4}, {"idle": 9.0}, {"after": 0}):
        assert in_micro("v2drop", "llm:2", 6, **asked).index(2).tolist() == kept
    assert not METHODS["v2drop"].text_aware
    # what stands in front of the image they do see
    assert in_micro("v2drop", "llm:2", 6, asked=1).index(2).tolist() != kept


@settings(max_examples=15, deadline=None)
@given(power=st.integers(-3, 3), seed=st.integers(0, 999))
def test_tokens_behind_one_do_not_move_its_score(in_micro, power, seed):
    """Causal: rows in front of a change keep their scores, so they keep their order."""
    rows = np.random.default_rng(seed).normal(size=(20, 16))
    other = rows.copy()
    other[10:] *= 2.0**power
    kept, moved = (in_micro("v2drop", "llm:1", 19, rows=r) for r in (rows, other))
    a, b = (score(g.prompt, g.trace.layers[0])[:10] for g in (kept, moved))
    np.testing.assert_allclose(a, b, rtol=1e-9)
    for got in (kept, moved):  # the one that went is the least changed of all
        gone = np.setdiff1d(np.arange(20), got.index(1))
        least = score(got.prompt, got.trace.layers[0])
        assert least[gone[0]] <= least.min() * (1 + 1e-5)


def test_it_refuses_a_site_with_no_layer_in_front(in_micro):
    with pytest.raises(UsageFault, match="llm:1 is the first site with it"):
        in_micro("v2drop", "llm:0", 5)


def test_default_sites_are_the_papers_shares_of_the_depth():
    assert [str(s) for s in METHODS["v2drop"]().default_sites(32, None)] == [
        "llm:3", "llm:17", "llm:22"
    ]  # fmt: skip
    assert [str(s) for s in METHODS["v2drop"]().default_sites(4, None)] == [
        "llm:1", "llm:2", "llm:3"
    ]  # fmt: skip
