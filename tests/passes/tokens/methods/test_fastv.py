"""FastV: the row beside the fused node is the row of a whole softmax, in numpy and float64."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS


def score(prompt, layer):
    """What the last row pays each image token: the full matrix, then its last row."""
    return layer.share.mean(0)[-1, prompt.image]


@pytest.mark.parametrize(
    ("keep", "depth", "kv_heads"), [(1, 1, 1), (5, 1, 2), (19, 1, 4), (5, 2, 1), (1, 2, 4)]
)
def test_it_keeps_what_the_last_word_looks_at(in_micro, llama, keep, depth, kv_heads):
    for seed in range(4):
        got = in_micro("fastv", f"llm:{depth}", keep, seed, sizes=(("kv_heads", kv_heads),))
        expected = score(got.prompt, got.trace.layers[depth - 1])
        assert len(got.index(depth)) == keep
        assert llama.is_top(got.index(depth), expected)


def test_the_other_rows_would_choose_otherwise(in_micro, llama):
    """The test can fail: the row before the last is another score."""
    wrong = 0
    for seed in range(4):
        got = in_micro("fastv", "llm:2", 5, seed)
        other = got.trace.layers[1].share.mean(0)[-2, got.prompt.image]
        wrong += not llama.is_top(got.index(2), other)
    assert wrong


def test_the_bundled_model_at_its_default_site(in_tiny, llama):
    model, found = in_tiny("fastv")
    assert [s.layer for s in model.contract.sites] == [2]
    for got in found:
        assert llama.is_top(got.index(2), score(got.prompt, got.trace.layers[1]))


def test_behind_another_site_it_reads_the_row_of_what_is_left(in_tiny, llama):
    _, found = in_tiny("fastv", "32,16", "llm:1,llm:2")
    for got in found:
        assert llama.is_top(got.index(1), score(got.prompt, got.trace.layers[0]))
        behind = score(got.prompt, got.trace_behind(1).layers[1])
        assert llama.is_top(got.index(2), behind[got.index(1)])


def test_it_refuses_a_site_without_an_attention_in_front(in_micro):
    with pytest.raises(UsageFault, match="only 0 came before; llm:1 is the first site") as caught:
        in_micro("fastv", "llm:0", 5)
    assert caught.value.code == "EV230"


def test_default_sites_are_sites_of_any_model():
    assert [str(s) for s in METHODS["fastv"]().default_sites(32, None)] == ["llm:2"]
    assert [str(s) for s in METHODS["fastv"]().default_sites(2, None)] == ["llm:1"]


def test_the_question_matters_and_padding_does_not(in_micro):
    kept = [in_micro("fastv", "llm:2", 5, asked=n).index(2).tolist() for n in range(4)]
    assert METHODS["fastv"].text_aware and len({tuple(k) for k in kept}) > 1
    assert in_micro("fastv", "llm:2", 5, idle=50.0).index(2).tolist() == kept[0]


def test_without_a_word_behind_the_image_its_last_token_looks(in_micro, llama):
    for before in (0, 6):
        got = in_micro("fastv", "llm:2", 5, before=before, after=0)
        assert llama.is_top(got.index(2), score(got.prompt, got.trace.layers[1]))
