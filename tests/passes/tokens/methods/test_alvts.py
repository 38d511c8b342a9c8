"""ALVTS against numpy: the fold, the scores, and layers that each work on their own tokens."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS


def cut(weight, rank):
    """The nearest matrix of that rank."""
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


@functools.cache
def factors(model, depth, rank):
    """(Wq, Wk) at that rank; key heads are repeated first, as attention repeats them."""
    w = model.layers[depth].w
    shared = w["k"].reshape(len(w["k"]), -1, model.dim)
    repeated = np.repeat(shared, w["q"].shape[1] // w["k"].shape[1], 1)
    return cut(w["q"], rank), cut(repeated.reshape(len(w["k"]), -1), rank)


def low_rank_attention(llama, model, normed, depth, rank):
    """[L,L]: causal softmax of all heads side by side, without rotation."""
    q, k = factors(model, depth, rank)
    logits = (normed @ q) @ (normed @ k).T / np.sqrt(q.shape[1])
    return llama.softmax(np.where(llama.causal(len(normed)), logits, -np.inf))


def score(llama, got, depth, rank, queries, trace=None):
    layer, prompt = (trace or got.trace).layers[depth], got.prompt
    a = low_rank_attention(llama, got.llama, layer.normed, depth, rank)
    few = min(queries, prompt.count)
    rows = prompt.start + ((np.arange(few) + 0.5) * prompt.count / few).astype(int)
    return a[rows][:, prompt.image].mean(0) * a[prompt.words][:, prompt.image].mean(0)


@pytest.mark.parametrize(
    ("keep", "rank", "kv_heads"), [(1, 3, 1), (6, 1, 2), (19, 256, 4), (6, 256, 1)]
)
def test_it_is_the_cards(in_micro, llama, keep, rank, kv_heads):
    for depth in (0, 1, 2):
        options = {"sizes": (("kv_heads", kv_heads),), "rank": rank, "queries": 7}
        got = in_micro("alvts", f"llm:{depth}", keep, depth, **options)
        assert llama.is_top(got.index(depth), score(llama, got, depth, rank, 7))


def test_every_layer_of_the_bundled_model_chooses_anew(in_tiny, llama):
    model, found = in_tiny("alvts:rank=32")
    sites = [(s.layer, s.given, s.tokens, s.returns) for s in model.contract.sites]
    assert sites == [(layer, 64, 16, True) for layer in range(4)]
    assert model.contract.layer_tokens == (16, 16, 16, 16)
    for got in found:
        rows = len(got.prompt.x)
        sees, works = [], []
        for layer in range(4):
            gone = got.prompt.start + np.setdiff1d(np.arange(64), got.index(layer))
            sees.append(llama.causal(rows, gone))
            works.append(~np.isin(np.arange(rows), gone))
        trace = got.llama(got.prompt.x, got.prompt.positions, sees, works)
        for layer in range(4):
            s = score(llama, got, layer, 32, 16, trace)
            assert llama.is_top(got.index(layer), s, slack=1e-4)
        assert len({tuple(got.index(layer)) for layer in range(4)}) > 1


def test_rows_that_are_skipped_are_unchanged_to_the_bit(small, put_in):
    """The stream in front of layer 2 and in front of layer 1, of which 14 tokens pass by."""
    made = put_in(small(), "alvts", "llm:1", 6)
    part = made.model.parts["prefill"]
    norms = {n.outputs[0].name: n.inputs[0] for n in part.graph if n.op_type[:3] == "RMS"}
    before = next(v for n in part.graph for v in n.outputs if v.name == "y_0")
    behind = norms["a_2"]
    assert list(behind.shape) == list(before.shape) == [1, 26, 16]
    feeds = made.feeds(np.random.default_rng(0).normal(size=(20, 16)))
    names = [before.name, behind.name, "image_index_1"]
    x, y, index = open_session(part, outputs=(before, behind)).run(names, feeds)
    gone = 2 + np.setdiff1d(np.arange(20), index)
    assert np.array_equal(x[0, gone], y[0, gone])
    assert (x[0, 2 + index] != y[0, 2 + index]).any(-1).all()


def test_all_tokens_kept_changes_nothing_at_all(tiny_model):
    step = KeepTokens(keep=64, method="alvts", at="llm:1")
    result = step(tiny_model)
    assert not result.changed and result.model is tiny_model


EVERY = "llm:0,llm:1,llm:2"


def test_a_choice_is_shared_by_layers_where_asked_for(in_micro):
    for seed in range(3):
        got = in_micro("alvts", EVERY, (6, 6, 6), seed, refresh=2)
        kept = [got.index(layer).tolist() for layer in range(3)]
        assert kept[0] == kept[1] != kept[2]


def test_the_control_draws_other_places_in_every_layer_the_same_every_time(in_micro):
    found = [in_micro("alvts", EVERY, (6, 6, 6), rows, score="random") for rows in range(2)]
    kept = [[tuple(got.index(layer)) for layer in range(3)] for got in found]
    assert len(set(kept[0])) == 3 and kept[0] == kept[1]


def test_at_whole_rank_without_rotation_it_is_the_layers_own_product(small, llama):
    """q k^T of all heads side by side, from unrotated q and k of the reference."""
    model = llama.Llama.of_micro(small())
    x = np.random.default_rng(0).normal(size=(12, 16))
    seen = model(x, np.arange(12)).layers[1]
    logits = np.einsum("hid,hjd->ij", seen.plain_q, seen.plain_k) / np.sqrt(16)
    want = llama.softmax(np.where(llama.causal(12), logits, -np.inf))
    got = low_rank_attention(llama, model, seen.normed, 1, 256)
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_it_ranks_like_the_attention_it_stands_for(in_tiny, llama, record_property):
    """Rank correlation with V2V x T2V of the layer's own attention, on the bundled model."""
    _, found = in_tiny("alvts:rank=32")  # nothing of its choices matters here

    def ranks(x):
        return np.argsort(np.argsort(x))

    agree = []
    for got in found:
        for depth in range(4):
            share = got.trace.layers[depth].share.mean(0)
            own = share[got.prompt.image, got.prompt.image].mean(0)
            true = own * share[got.prompt.words][:, got.prompt.image].mean(0)
            low = score(llama, got, depth, 256, 16)
            agree.append(np.corrcoef(ranks(true), ranks(low))[0, 1])
    by_layer = np.reshape(agree, (-1, 4)).mean(0).round(2)
    record_property("rank correlation by layer", by_layer.tolist())
    print(f"\nALVTS, rank correlation with the true score by layer: {by_layer}")
    assert by_layer.min() > 0.6


def test_biases_take_part(small, put_in, insert, llama):
    """A projection with a bias is one of one more input row."""
    rng = np.random.default_rng(1)
    bq, bk = (rng.normal(size=n).astype(np.float32) * 2 for n in (16, 8))
    model = insert(insert(small(), "q_0", "Add", bq), "k_0", "Add", bk)
    made = put_in(model, "alvts", "llm:0", 6, queries=20)
    rows = np.random.default_rng(2).normal(size=(20, 16))
    prompt, reference = llama.Prompt.of(made.feeds(rows), 20), llama.Llama.of_micro(small())
    normed, w = reference(prompt.x, prompt.positions).layers[0].normed, reference.layers[0].w
    q = (normed @ w["q"] + bq).reshape(len(normed), 4, 4)
    k = np.repeat((normed @ w["k"] + bk).reshape(len(normed), 2, 4), 2, 1)
    logits = np.einsum("ihd,jhd->ij", q, k) / 4
    a = llama.softmax(np.where(llama.causal(len(normed)), logits, -np.inf))
    s = a[prompt.image][:, prompt.image].mean(0) * a[prompt.words][:, prompt.image].mean(0)
    assert llama.is_top(made.choose(rows), s)


def test_padding_does_not_matter_and_the_question_does(in_micro):
    kept = in_micro("alvts", "llm:1", 6).index(1).tolist()
    assert in_micro("alvts", "llm:1", 6, idle=50.0).index(1).tolist() == kept
    asked = {tuple(in_micro("alvts", "llm:1", 6, asked=n).index(1)) for n in range(4)}
    assert METHODS["alvts"].text_aware and len(asked) > 1


def test_projections_that_are_more_than_that_are_refused(small, put_in, insert):
    """A norm on q, as some families have: its weights do not multiply with those of k."""
    model = insert(small(), "q4_1", "RMSNormalization", np.ones(4), axis=-1)
    with pytest.raises(UsageFault, match="plain projections") as caught:
        put_in(model, "alvts", "llm:1", 6)
    assert caught.value.code == "EV230"
