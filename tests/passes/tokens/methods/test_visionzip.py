"""VisionZip: dominant and contextual tokens against loops over a float64 tower."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS


def cosines(rows, others):
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rows, others))
    return a @ b.T


def contextual_of(keep, share):
    return min(max(1, round(share * keep)), keep - 1) if keep > 1 and share else 0


def rule(keep, share=10 / 64, score=None):
    """(index, content) of what a block has seen: the card, a token at a time."""

    def zipped(seen, first):
        x, key = seen.exit[first:], seen.k.mean(0)[first:]
        s = seen.looked_at(first) if score is None else score
        few = contextual_of(keep, share)
        dominant = np.argsort(-s, kind="stable")[: keep - few].tolist()
        rest = [i for i in range(len(x)) if i not in dominant]
        targets = [rest[n * (len(rest) // few)] for n in range(few)]
        content = {i: x[i] for i in dominant}
        others = [i for i in rest if i not in targets]
        near = {i: max(targets, key=lambda t: cosines(key, key)[i, t]) for i in others}
        for t in targets:
            joined = [x[i] for i in others if near[i] == t]
            content[t] = x[t] + (np.mean(joined, axis=0) if joined else 0)
        index = sorted(content)
        return np.array(index), np.array([content[i] for i in index])

    return zipped


CASES = [
    ("vision-out", 1, 13, {}),
    ("vision-out", 1, 6, {"contextual": 0.5}),
    ("vision-out", 1, 2, {}),
    ("vision-out", 0, 9, {"contextual": 0.3}),
    ("vision:2", 1, 8, {"contextual": 0.25}),
]


@pytest.mark.parametrize(("at", "lead", "keep", "options"), CASES)
def test_it_is_the_cards(vit, make_micro, at, lead, keep, options):
    plain = make_micro(grid=(4, 5), tower=3, width=16, lead=lead)
    tower, ask = (
        vit.Vit.of_micro(plain),
        vit.asking(vit.shortened(plain, "visionzip", {at: keep}, **options)),
    )
    depth = 3 if at == "vision-out" else 2
    for seed in range(5):
        pixels = vit.picture(plain, seed)
        share = options.get("contextual", 10 / 64)
        rows, index = tower.reduced(pixels, depth, rule(keep, share))
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist() and len(index) == keep
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-4, rtol=1e-3)


def test_in_a_dense_model_tokens_come_back_as_what_they_were_added_to(vit):
    plain = vit.plain_vit("dense")
    tower, ask = (
        vit.Vit.of_micro(plain),
        vit.asking(vit.shortened(plain, "visionzip", {"vision:1": 6}, contextual=0.5)),
    )
    for seed in range(3):
        pixels = vit.picture(plain, seed)
        rows, index = tower.reduced(pixels, 1, rule(6, 0.5))
        found = ask(pixels)["features"][0]
        assert found.shape == (17, 16)
        np.testing.assert_allclose(found[[0, *(1 + index)]], rows, atol=1e-3, rtol=1e-3)
        seen = tower(pixels)[0]
        key = seen.k.mean(0)[1:]
        dominant = set(np.argsort(-seen.looked_at(1))[:3].tolist())
        targets = [i for i in index.tolist() if i not in dominant]
        for i in set(range(16)) - set(index.tolist()):
            into = max(targets, key=lambda t, i=i, key=key: cosines(key, key)[i, t])
            assert found[1 + i].tolist() == found[1 + into].tolist()


def test_another_share_or_another_score_is_another_result(vit, make_micro):
    """The test above can fail."""
    plain = make_micro(grid=(4, 5), tower=3, width=16)
    tower, pixels = vit.Vit.of_micro(plain), vit.picture(plain)
    rows, index = tower.reduced(pixels, 3, rule(8))
    for wrong in (rule(8, 0.25), rule(8, score=np.arange(20.0))):
        other, places = tower.reduced(pixels, 3, wrong)
        assert places.tolist() != index.tolist() and np.abs(other - rows).max() > 1e-2


def test_without_contextual_tokens_it_is_class_attention_alone(vit, make_micro):
    plain = make_micro(grid=(4, 5), tower=3, width=16)
    tower = vit.Vit.of_micro(plain)
    for keep, options in ((1, {}), (7, {"contextual": 0})):
        ask = vit.asking(vit.shortened(plain, "visionzip", {"vision-out": keep}, **options))
        seen = tower(vit.picture(plain))[-1]
        best = sorted(np.argsort(-seen.looked_at(1))[:keep].tolist())
        found = ask(vit.picture(plain))
        assert found["image_index"].tolist() == best
        rows = seen.exit[[0, *(1 + np.array(best))]]
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)


def test_a_token_nobody_is_nearest_to_stays_itself_to_the_bit(put_in, small):
    """19 of 20 kept: one is left to join, so all contextual tokens but one get none."""
    placed = put_in(small(), "visionzip", "vision-out", 19, spy=True, contextual=0.25)
    for seed in range(3):
        out = placed.run(placed.rows(seed))
        tokens, index = out["spy/tokens"], out["spy/index"]
        same = (out["spy/content"] == tokens[index]).all(1)
        assert same.sum() == 18
        (gone,) = set(range(20)) - set(index.tolist())
        (where,) = np.flatnonzero(~same)
        added = out["spy/content"][where] - tokens[index[where]]
        np.testing.assert_allclose(added, tokens[gone], atol=1e-5)


def test_published_splits():
    share = METHODS["visionzip"]().options.contextual
    assert [contextual_of(k, share) for k in (64, 128, 192)] == [10, 20, 30]


def test_without_a_class_token_the_record_says_what_stands_in(vit, make_micro):
    step = KeepTokens(keep=5, at="vision-out", method="visionzip")
    told = {
        lead: any(
            "no class token" in note.why
            for note in step(make_micro(grid=(3, 3), tower=1, width=16, lead=lead)).notes
        )
        for lead in (0, 1)
    }
    assert told == {0: True, 1: False}


@pytest.mark.parametrize("share", ["1", "-0.1", "nan", "many"])
def test_shares_it_refuses(share):
    with pytest.raises(UsageFault, match="contextual") as caught:
        METHODS["visionzip"](contextual=share)
    assert caught.value.code == "EV202"


def test_the_bundled_model_behind_its_encoder(vit, in_encoder, tiny_vit):
    made, budgets, pictures = in_encoder("visionzip", "16")
    assert budgets == {"vision-out": 16} and made.contract.kept_image_tokens == 16
    ask = vit.asking(made)
    for pixels in pictures:
        rows, index = tiny_vit.reduced(pixels, 4, rule(16))
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist()
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)
