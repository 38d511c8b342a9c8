"""EmbedLens: the prototypes it was shown, the words it was told, and what is least like them."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.reference import Reference
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.pieces.prototypes import find_prototypes
from edgevlm.passes.tokens.pieces.vocabulary import word_rows


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def keep(score, few):
    return sorted(np.argsort(-score, kind="stable")[:few].tolist())


def pictures_of(model, reference):
    parts = ReferenceParts(model.parts)
    seen = [parts.call("connector", f["connector"])["image_embeds"][0] for f in reference.feeds]
    return np.unique(np.stack(seen), axis=0)


@pytest.mark.parametrize(
    ("few", "options"),
    [(1, {}), (6, {}), (19, {}), (6, {"sinks": 0}), (6, {"sink": 0.95, "dead": 0.7})],
)
def test_the_tokens_least_like_a_prototype_stay(spied, small, observed, few, options):
    o = {"sinks": 7, "sink": 0.99, "dead": 0.9} | options
    shown = pictures_of(small(), observed(small()))
    found = find_prototypes(shown, o["sinks"], o["sink"], o["dead"])
    assert found
    directions = np.stack([p.direction for p in found])
    for seed in range(4):
        x, index, _ = spied("embedlens", "connector-out", few, seed, **options)
        assert index.tolist() == keep(-(unit(x) @ directions.T).max(1), few)


@pytest.mark.parametrize(("markers", "nearest"), [("3", 3), ("1:7:12", 3), ("0:15", 1), ("5", 64)])
def test_the_published_rule_by_its_margin(spied, small, markers, nearest):
    """A token with a marker among its nearest words goes before any without one."""
    table = small().parts["embed"].graph.initializers["table"].const_value.numpy()
    words = [int(w) for w in markers.split(":")]
    options = {"rule": "vocabulary", "markers": markers, "nearest": nearest}
    for seed in range(4):
        x, index, _ = spied("embedlens", "connector-out", 9, seed, **options)
        near = unit(x) @ unit(table.astype(np.float64)).T
        last = np.sort(near, 1)[:, -min(nearest, len(table))]
        assert index.tolist() == keep(last - near[:, words].max(1), 9)
        dropped = [set(np.argsort(-row)[:nearest]) & set(words) != set() for row in near]
        rest = np.setdiff1d(np.arange(20), index)
        if sum(dropped) >= 11:
            assert all(dropped[i] for i in rest)
        else:
            assert all(i in rest for i in np.flatnonzero(dropped))


def test_the_table_is_that_of_the_embed_part(tiny_model):
    rows = word_rows(tiny_model)
    assert rows.shape == (tiny_model.contract.vocabulary, tiny_model.contract.width)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    ids = np.zeros((1, tiny_model.contract.prompt_capacity), np.int64)
    ids[0, :3] = [5, 9, 100]
    text = ReferenceParts(tiny_model.parts).call("embed", {"input_ids": ids})["text_embeds"]
    assert np.allclose(unit(text[0, :3]), rows[[5, 9, 100]], atol=1e-5)


def test_the_bundled_model_at_its_default_site(in_tower, tiny_model, observed):
    """The manager hands over what the model did on its probes; nobody had to ask."""
    model, found = in_tower("embedlens", "16")
    assert model.contract.kept_image_tokens == 16
    shown = find_prototypes(pictures_of(tiny_model, observed(tiny_model)), 7)
    directions = np.stack([p.direction for p in shown])
    for _, embeds, kept in found:
        score = -(unit(embeds.astype(np.float64)) @ directions.T).max(1)
        edge = np.sort(score)[-16]
        assert (score[kept.index] > edge - 1e-5).all() and len(set(kept.index)) == 16


def test_what_was_found_is_told(small, observed):
    step = KeepTokens(keep=6, method="embedlens")
    step.calibration = observed(small())
    notes = [n.why for n in step(small()).notes]
    assert any(n.startswith("dead: ") and n.endswith("pictures") for n in notes)


def test_without_pictures_it_says_what_is_missing(small, observed):
    step = KeepTokens(keep=6, method="embedlens")
    with pytest.raises(UsageFault, match="two different pictures") as caught:
        step(small())
    assert caught.value.code == "EV230" and "there are 0" in caught.value.why
    seen = observed(small())
    step.calibration = Reference(seen.feeds[:1] * 4, [], [])
    with pytest.raises(UsageFault) as caught:
        step(small())
    assert "there are 1" in caught.value.why
    step = KeepTokens(keep=6, method="embedlens", options={"sink": 0.999999, "dead": 0.999999})
    step.calibration = seen
    with pytest.raises(UsageFault, match="have in common") as caught:
        step(small())
    assert "--probes" in caught.value.why


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rule": "vocabulary"}, "needs markers"),
        ({"rule": "vocabulary", "markers": "1:x"}, "invalid literal"),
        ({"rule": "vocabulary", "markers": "1:-2"}, "0 and more"),
        ({"sinks": -1}, "greater than or equal"),
        ({"rule": "other"}, "prototypes"),
    ],
)
def test_options_it_refuses(options, why):
    with pytest.raises(UsageFault, match=why) as caught:
        METHODS["embedlens"](**options)
    assert caught.value.code == "EV202"


def test_a_marker_that_is_no_word_of_the_model(put_in, small):
    with pytest.raises(UsageFault, match="knows 16 words"):
        put_in(small(), "embedlens", "connector-out", 6, rule="vocabulary", markers="16")
