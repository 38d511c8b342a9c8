"""HAWK against numpy: no rotation, words averaged first, every head's row of length one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS


def score(prompt, layer, weights=None, words_first=False):
    """The mean over words comes last here, as in public code; unless asked for first."""
    q, k = layer.plain_q[:, prompt.words], layer.plain_k[:, prompt.image]
    if words_first:
        q = q.mean(1, keepdims=True)
    match = (q @ k.transpose(0, 2, 1)).mean(1) / np.sqrt(q.shape[-1])
    match /= np.sqrt((match**2).sum(-1, keepdims=True))
    weights = np.ones(len(match)) if weights is None else np.asarray(weights, float)
    return (weights[:, None] / weights.sum() * match).sum(0)


def test_averaging_words_first_is_exact(in_micro):
    got = in_micro("hawk", "llm:0", 5)
    layer = got.trace.layers[0]
    late, first = score(got.prompt, layer), score(got.prompt, layer, words_first=True)
    assert np.abs(late - first).max() < 1e-12


@pytest.mark.parametrize(
    ("keep", "kv_heads", "weights"),
    [
        (1, 1, ""),
        (6, 4, ""),
        (6, 2, "1:0:0:0"),
        (19, 4, "0.1:2:0.3:1e-3"),
        (6, 1, "0.1:2:0.3:1e-3"),
    ],
)
def test_it_keeps_what_the_question_finds(in_micro, llama, keep, kv_heads, weights):
    for seed in range(3):
        options = {"weights": weights, "sizes": (("kv_heads", kv_heads),)}
        got = in_micro("hawk", "llm:0", keep, seed, asked=seed, after=1 + seed, **options)
        given = [float(w) for w in weights.split(":")] if weights else None
        assert llama.is_top(got.index(0), score(got.prompt, got.trace.layers[0], given))


def test_rotated_keys_would_choose_otherwise(in_micro, llama):
    """The test can fail, and the rotation is really left out."""
    wrong = 0
    for seed in range(4):
        got = in_micro("hawk", "llm:0", 6, seed)
        layer = got.trace.layers[0]
        layer.plain_q, layer.plain_k = layer.q, layer.k
        wrong += not llama.is_top(got.index(0), score(got.prompt, layer))
    assert wrong == 4


def test_the_bundled_model_at_its_default_site(in_tiny, llama):
    model, found = in_tiny("hawk")
    assert [s.layer for s in model.contract.sites] == [0]
    for got in found:
        assert llama.is_top(got.index(0), score(got.prompt, got.trace.layers[0]))


def test_scores_do_not_know_where_a_token_stands(in_micro):
    """T4: permuted tokens, the same set of them."""
    rows = np.random.default_rng(5).normal(size=(20, 16))
    order = np.random.default_rng(6).permutation(20)
    kept = in_micro("hawk", "llm:0", 6, rows=rows).index(0)
    moved = in_micro("hawk", "llm:0", 6, rows=rows[order]).index(0)
    assert sorted(order[moved]) == kept.tolist()


@pytest.mark.parametrize("head", range(4))
def test_a_heads_size_is_nothing_but_its_weight(small, put_in, head):
    """Each head is normalised: a head of a hundredfold q finds what it found."""
    model = small()
    loud = model.parts["prefill"].clone()
    held = loud.graph.initializers["wq_0"]
    weight = held.const_value.numpy().copy()
    weight[:, 4 * head : 4 * head + 4] *= 100
    held.const_value = ir.tensor(weight, name="wq_0")
    rows = np.random.default_rng(head).normal(size=(20, 16))
    kept = put_in(model, "hawk", "llm:0", 6).choose(rows)
    same = put_in(model.with_parts(prefill=loud), "hawk", "llm:0", 6).choose(rows)
    other = put_in(
        model, "hawk", "llm:0", 6, weights=":".join("9" if h == head else "1" for h in range(4))
    )
    assert kept.tolist() == same.tolist()
    assert other.choose(rows).tolist() != kept.tolist()


def test_the_question_matters_and_padding_does_not(in_micro):
    kept = [in_micro("hawk", "llm:0", 6, asked=n).index(0).tolist() for n in range(4)]
    assert METHODS["hawk"].text_aware and len({tuple(k) for k in kept}) > 1
    assert in_micro("hawk", "llm:0", 6, idle=50.0).index(0).tolist() == kept[0]


@pytest.mark.parametrize("text", ["1:a", "-1:2", "0:0:0:0", "nan:1", "1::2"])
def test_weights_are_numbers(text):
    with pytest.raises(UsageFault, match="'weights' of method hawk") as caught:
        METHODS["hawk"](weights=text)
    assert caught.value.code == "EV202"


def test_a_weight_for_each_head(in_micro):
    with pytest.raises(UsageFault, match="2 head weights") as caught:
        in_micro("hawk", "llm:0", 6, weights="1:2")
    assert caught.value.code == "EV202" and "has 4 heads" in str(caught.value)


def test_deeper_layers_are_refused_with_the_reason(in_micro):
    with pytest.raises(UsageFault, match="without their rotation") as caught:
        in_micro("hawk", "llm:1", 6)
    assert caught.value.code == "EV230" and "it works at llm:0" in str(caught.value)
