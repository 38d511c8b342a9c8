"""TransPrune against numpy: transitions of modules over the sequence, words of the next layer."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS


def length(x):
    return np.sqrt((x * x).sum(-1))


def transition(llama, given, made):
    """[L]: how far one module stretches and turns each row."""
    turn = 1 - (given * made).sum(-1) / (length(given) * length(made))
    return length(made) / length(given) * llama.softmax(turn)


def score(llama, prompt, layers, depth, back=1, alpha=0.5, shown=None):
    """[N]; shown: rows of the sequence that are still there."""
    shown = np.arange(len(prompt.x)) if shown is None else shown
    ttv = np.zeros(len(prompt.x))
    for layer in layers[depth - back : depth]:
        for given, made in ((layer.normed, layer.attended), (layer.mlp_normed, layer.mlp_out)):
            ttv[shown] += transition(llama, given[shown], made[shown])
    asked = layers[depth].share[:, prompt.words].mean((0, 1))
    ttv, asked = (np.where(np.isin(np.arange(len(s)), shown), s, 0) for s in (ttv, asked))
    ttv, asked = ttv[prompt.image], asked[prompt.image]
    return alpha * ttv / ttv.sum() + (1 - alpha) * asked / asked.sum()


@pytest.mark.parametrize(
    ("keep", "alpha", "depth"), [(1, 0.5, 1), (6, 0.0, 1), (6, 0.3, 2), (6, 1.0, 1), (19, 0.5, 2)]
)
def test_it_is_the_cards(in_micro, llama, keep, alpha, depth):
    for seed in range(3):
        got = in_micro("transprune", f"llm:{depth}", keep, seed, alpha=alpha, after=4)
        expected = score(llama, got.prompt, got.trace.layers, depth, alpha=alpha)
        assert llama.is_top(got.index(depth), expected)


def test_transitions_are_summed_over_the_layers_asked_for(in_micro, llama):
    other = 0
    for seed in range(4):
        got = in_micro("transprune", "llm:2", 9, seed, layers_back=2, alpha=1.0)
        both, one = (
            score(llama, got.prompt, got.trace.layers, 2, back=back, alpha=1.0) for back in (2, 1)
        )
        assert llama.is_top(got.index(2), both)
        other += not llama.is_top(got.index(2), one)
    assert other  # the test can fail


def test_the_bundled_model_at_its_default_sites(in_tiny, llama):
    """Behind the first site the sum begins anew: one layer, on what is left."""
    model, found = in_tiny("transprune")
    assert [(s.layer, s.tokens) for s in model.contract.sites] == [(1, 32), (2, 16)]
    for got in found:
        prompt = got.prompt
        assert llama.is_top(got.index(1), score(llama, prompt, got.trace.layers, 1))
        rows = np.arange(len(prompt.x))
        gone = prompt.start + np.setdiff1d(np.arange(64), got.index(1))
        behind = got.trace_behind(1).layers
        s = score(llama, prompt, behind, 2, shown=np.setdiff1d(rows, gone))
        assert llama.is_top(got.index(2), s[got.index(1)])


def test_the_sum_begins_anew_behind_a_site_and_says_so(small, put_in):
    model = put_in(small(layers=4), "random", "llm:1", 12).model
    for options, expected in (
        ({}, "transitions of 1 layers"),
        ({"layers_back": 3}, "transitions of 1 layers"),
        ({"layers_back": 1}, None),
    ):
        step = KeepTokens(keep=5, method="transprune", at="llm:2", options=options)
        notes = [note.why for note in step(model).notes]
        assert [n for n in notes if "begins anew" in n] == (
            [f"{expected}: the sum begins anew behind the last site"] if expected else []
        )


def test_two_layers_behind_a_site_are_both_summed(in_micro, llama):
    got = in_micro("transprune", "llm:1,llm:3", (12, 5), sizes=(("layers", 4),))
    rows = np.arange(len(got.prompt.x))
    shown = np.setdiff1d(rows, got.prompt.start + np.setdiff1d(np.arange(20), got.index(1)))
    s = score(llama, got.prompt, got.trace_behind(1).layers, 3, back=2, shown=shown)
    assert llama.is_top(got.index(3), s[got.index(1)])


def test_padding_does_not_matter_and_without_the_question_neither_does_that(in_micro):
    kept = in_micro("transprune", "llm:2", 6).index(2).tolist()
    assert in_micro("transprune", "llm:2", 6, idle=50.0).index(2).tolist() == kept
    assert METHODS["transprune"].text_aware
    asked = {
        tuple(in_micro("transprune", "llm:2", 6, asked=n, alpha=0.0).index(2)) for n in range(4)
    }
    assert len(asked) > 1


def test_it_refuses_what_it_cannot_have(in_micro):
    with pytest.raises(UsageFault, match="llm:1 is the first site"):
        in_micro("transprune", "llm:0", 5)


def test_default_sites_leave_the_last_layer_out():
    def sites(layers):
        return [s.depth for s in METHODS["transprune"]().default_sites(layers, None)]

    assert sites(32) == [7, 9, 12] and sites(4) == [1, 2] and sites(3) == [1] and sites(2) == [1]
