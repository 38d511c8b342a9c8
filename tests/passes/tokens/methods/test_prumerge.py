"""PruMerge+: who stays, what is summed in, and the one more, against loops over a float64 tower."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.pieces.outliers import above_fence


def one_head(rows):
    """[heads,L,d] -> [L,heads x d]: all heads side by side."""
    return np.concatenate(list(rows), axis=1)


def attention(vit, seen, first):
    """[N]: softmax over all rows, of the class token, or the mean of that of 16 spread rows."""
    q, k = one_head(seen.q), one_head(seen.k)
    few = min(16, len(q))
    asked = [0] if first else [int((n + 0.5) * len(q) / few) for n in range(few)]
    return vit.softmax(q[asked] @ k.T / np.sqrt(q.shape[1]))[:, first:].mean(0)


def weights(s, key, keep, top=0.25, neighbours=32, extra=True):
    """(index, [K,N]): what each token given out is made of, by the card, a token at a time."""
    count, one_more = len(s), extra and keep > 1
    kept = keep - one_more
    first = np.argsort(-s, kind="stable")[: max(1, round(top * kept))].tolist()
    rest = [i for i in range(count) if i not in first]
    spread = kept - len(first)
    first += [rest[n * (len(rest) // spread)] for n in range(spread)]
    unit = key / np.linalg.norm(key, axis=1, keepdims=True)
    rows = {}
    for i in first:
        near = sorted((j for j in range(count) if j != i), key=lambda j: -(unit[i] @ unit[j]))
        rows[i] = np.zeros(count)
        rows[i][near[:neighbours]] = s[near[:neighbours]]
        rows[i][i] = 1
    if one_more:
        gone = [i for i in range(count) if i not in first]
        last = max(gone, key=lambda i: s[i])
        rows[last] = np.zeros(count)
        rows[last][gone] = s[gone]
    index = sorted(rows)
    return np.array(index), np.array([rows[i] for i in index])


def rule(vit, keep, **options):
    def merged(seen, first):
        s = attention(vit, seen, first)
        index, weight = weights(s, one_head(seen.k)[first:], keep, **options)
        return index, weight @ seen.exit[first:]

    return merged


@pytest.mark.parametrize(
    ("at", "lead", "keep", "options"),
    [
        ("vision-out", 1, 8, {"neighbours": 5}),
        ("vision-out", 1, 13, {}),  # 32 neighbours are more than there are
        ("vision-out", 1, 7, {"top": 1, "neighbours": 2, "extra": False}),
        ("vision-out", 1, 1, {"neighbours": 1}),
        ("vision-out", 0, 9, {"neighbours": 3, "top": 0.5}),
        ("vision:2", 1, 6, {"neighbours": 4, "top": 0}),
    ],
)
def test_it_is_the_cards(vit, make_micro, at, lead, keep, options):
    plain = make_micro(grid=(4, 5), tower=3, width=16, lead=lead)
    tower = vit.Vit.of_micro(plain)
    ask = vit.asking(vit.shortened(plain, "prumerge", {at: keep}, **options))
    for seed in range(5):
        pixels = vit.picture(plain, seed)
        depth = 3 if at == "vision-out" else 2
        rows, index = tower.reduced(pixels, depth, rule(vit, keep, **options))
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist() and len(index) == keep
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)


def test_in_a_dense_model_tokens_that_left_come_back_as_they_were(vit):
    """Sums of many have no one token that each went into."""
    plain = vit.plain_vit("dense")
    tower, pixels = vit.Vit.of_micro(plain), vit.picture(plain)
    rows, index = tower.reduced(pixels, 1, rule(vit, 6))
    found = vit.asking(vit.shortened(plain, "prumerge", {"vision:1": 6}))(pixels)["features"][0]
    np.testing.assert_allclose(found[[0, *(1 + index)]], rows, atol=1e-3, rtol=1e-3)
    gone = 1 + np.setdiff1d(np.arange(16), index)
    np.testing.assert_allclose(found[gone], tower(pixels)[0].exit[gone], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", ["tensorrt", "fpga"])
def test_the_one_more_stands_at_the_largest_score_in_every_form(put_in, small, vit, form):
    """Of those that leave; where ties are broken by hand, scores are scaled first."""
    placed = put_in(small(), "prumerge", "vision-out", 6, form=form)
    tower = vit.Vit.of_micro(small())
    for seed in range(3):
        rows = placed.rows(seed)
        pixels = placed.feeds(rows)["pixel_values"][0]
        assert placed.choose(rows).tolist() == tower.reduced(pixels, 3, rule(vit, 6))[1].tolist()


def test_each_option_matters(vit, make_micro):
    """The test above can fail."""
    plain = make_micro(grid=(4, 5), tower=3, width=16)
    tower, pixels = vit.Vit.of_micro(plain), vit.picture(plain)
    rows, _ = tower.reduced(pixels, 3, rule(vit, 9))
    for other in ({"top": 1}, {"neighbours": 3}, {"extra": False}):
        assert np.abs(tower.reduced(pixels, 3, rule(vit, 9, **other))[0] - rows).max() > 1e-2


def test_attention_is_that_of_one_wide_head(vit, make_micro):
    """Not the mean over heads that other methods take: the published code forgets to split."""
    plain = make_micro(grid=(4, 5), tower=3, width=16)
    seen = vit.Vit.of_micro(plain)(vit.picture(plain))[-1]
    wide, mean = attention(vit, seen, 1), seen.looked_at(1)
    assert np.abs(wide - mean).max() > 1e-3
    assert wide.sum() < 1, "the class token looks at itself as well"


def test_the_fence_of_outliers():
    """Q3 + 1.5 IQR of 0..99 is 148.5."""
    plain = np.arange(100.0)
    assert above_fence(plain) == 0
    assert above_fence(np.concatenate([plain, [1e3, 2e3]])) == 2
    assert above_fence(np.full(7, 0.25)) == 0


def test_the_bundled_model_behind_its_encoder(vit, in_encoder, tiny_vit):
    made, budgets, pictures = in_encoder("prumerge", "16")
    assert budgets == {"vision-out": 16} and made.contract.kept_image_tokens == 16
    ask = vit.asking(made)
    for pixels in pictures:
        rows, index = tiny_vit.reduced(pixels, 4, rule(vit, 16))
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist()
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)


def test_the_record_tells_what_the_rule_of_outliers_would_keep(vit, put_in, small, observed):
    placed = put_in(small(), "prumerge", "vision-out", 5)
    seen = observed(small())
    pictures = {f["vision"]["pixel_values"].tobytes(): f["vision"]["pixel_values"][0]
                for f in seen.feeds if "vision" in f}  # fmt: skip
    tower = vit.Vit.of_micro(small())
    counts = [above_fence(attention(vit, tower(p)[-1], 1)) for p in pictures.values()]
    (note,) = [n for n in placed.notes if "IQR" in n]
    assert note.startswith(
        f"of {len(counts)} probe pictures the IQR rule would keep {min(counts)} to {max(counts)} "
        f"of 20 tokens, {np.mean(counts):.1f} in the mean"
    )


@pytest.mark.parametrize(
    ("option", "value"), [("top", 1.5), ("neighbours", 0), ("extra", "perhaps"), ("alpha", 1)]
)
def test_options_it_refuses(option, value):
    with pytest.raises(UsageFault, match=option) as caught:
        METHODS["prumerge"](**{option: value})
    assert caught.value.code == "EV202"
