"""Information horizon: constant places in front of a deep layer, or none at all."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import _prompt, encode_image
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS


def drawn(seed, count, keep):
    return np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(count)[:keep])


@pytest.mark.parametrize("keep", [1, 7, 19])
def test_places_are_the_seeds_whatever_the_picture(in_micro, keep):
    for rows in range(2):
        got = in_micro("horizon", "llm:2", keep, rows)
        assert got.index(2).tolist() == drawn(0, 20, keep).tolist()


def test_seeds_differ_and_the_same_seed_does_not(small, put_in):
    rows = np.zeros((20, 16))
    kept = [put_in(small(), "horizon", "llm:2", 7, seed=n).choose(rows).tolist() for n in (3, 3, 4)]
    assert kept[0] == kept[1] == drawn(3, 20, 7).tolist() != kept[2]


@pytest.mark.parametrize(
    ("layers", "options", "site"),
    [
        (32, {}, "llm:16"),
        (4, {}, "llm:2"),
        (4, {"layer": "3"}, "llm:3"),
        (30, {"layer": 0}, "llm:0"),
    ],
)
def test_it_stands_at_half_the_depth_or_where_it_was_found(layers, options, site):
    assert [str(s) for s in METHODS["horizon"](**options).default_sites(layers, None)] == [site]


def test_no_token_at_all_is_a_budget(in_tiny, tiny_probes):
    """--tokens 0 --prune horizon:layer=2: the last two layers run at the length of the text."""
    model, found = in_tiny("horizon:layer=2", "0")
    assert model.contract.layer_tokens == (64, 64, 0, 0)
    parts, probe = ReferenceParts(model.parts), tiny_probes[0]
    image = encode_image(model.contract, parts, probe.pixel_values)
    out = parts.call("prefill", _prompt(model.contract, parts, image, probe.before, probe.after))
    assert [out[f"key_{layer}"].shape[2] for layer in range(4)] == [96, 96, 32, 32]
    assert not [name for name in out if name.startswith("image_index")]
    for got in found:  # what is left is as if the image were hidden from layer 2 on
        gone = np.arange(64) + got.prompt.start
        causal = got.reference.causal
        sees = [causal(len(got.prompt.x), gone if layer > 1 else ()) for layer in range(4)]
        want = got.llama(got.prompt.x, got.prompt.positions, sees).logits[-1]
        assert np.abs(got.out["logits"][0] - want).max() < 3e-5 * np.abs(want).max()


def test_what_is_lost_by_dropping_all_falls_with_depth(tiny_model, tiny_probes):
    """The card's curve: the KL of the first word's logits, against all tokens in all layers."""

    def first_logits(model):
        parts, found = ReferenceParts(model.parts), []
        for probe in tiny_probes:
            image = encode_image(model.contract, parts, probe.pixel_values)
            feeds = _prompt(model.contract, parts, image, probe.before, probe.after)
            found.append(parts.call("prefill", feeds)["logits"][0].astype(np.float64))
        x = np.array(found) - np.max(found, -1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    whole = first_logits(tiny_model)
    lost = []
    for layer in range(4):
        step = KeepTokens(keep=0, method="horizon", at=f"llm:{layer}")
        lost.append((np.exp(whole) * (whole - first_logits(step(tiny_model).model))).sum(-1).mean())
    print(f"\nKL by layer: {np.round(lost, 3)}")
    assert lost[0] > 0.5 and lost[-1] < lost[0] / 2 and min(lost) > -1e-9


def test_it_is_of_the_language_model_alone():
    with pytest.raises(UsageFault, match="option 'layer'"):
        METHODS["horizon"](layer=-1)
    assert METHODS["horizon"].sites == ("llm",)
