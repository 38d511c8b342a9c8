"""ToMe: each block's matching against loops, in a whole tower in float64; and what is exact."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest


def matching(metric, r, first):
    """Into which token each goes: the r best pairs of an even row and an odd row of the stream."""
    unit = metric / np.linalg.norm(metric, axis=1, keepdims=True)
    a, b = ([i for i in range(len(unit)) if (first + i) % 2 == odd] for odd in (0, 1))
    best = {i: max(b, key=lambda j: unit[i] @ unit[j]) for i in a}
    order = sorted(a, key=lambda i: -(unit[i] @ unit[best[i]]))
    return [best[i] if i in order[:r] else i for i in range(len(unit))]


class Merging:
    """Between attention and MLP of a block, in rounds where more than half has to go."""

    def __init__(self, first, keep, proportional=True):
        self.first, self.keep, self.proportional = first, keep, proportional

    def __call__(self, seen, rows):
        lead, x, n = rows[: self.first], rows[self.first :], seen.sizes[self.first :]
        metric = seen.k.mean(0)[self.first :]
        self.index, self.owner = np.arange(len(x)), np.arange(len(x))
        while len(x) > self.keep:
            to = matching(metric, min(len(x) - self.keep, len(x) // 2), self.first)
            left = sorted(set(to))
            all_in = [[i for i, j in enumerate(to) if j == kept] for kept in left]
            x, metric = (
                np.array([np.average(v[m], axis=0, weights=n[m]) for m in all_in])
                for v in (x, metric)
            )
            n = np.array([n[m].sum() for m in all_in])
            self.index = self.index[left]
            self.owner = np.array([left.index(to[o]) for o in self.owner])
        sizes = np.concatenate([np.ones(self.first), n])
        return np.concatenate([lead, x]), sizes if self.proportional else np.ones(len(sizes))


def merge(vit, model, pixels, budgets, proportional=True, tower=None):
    """(last stream, places that are left, what each token went into) of the float64 tower."""
    tower = tower or vit.Vit.of_micro(model)
    steps = {b: Merging(tower.first, keep, proportional) for b, keep in budgets.items()}
    rows = tower(pixels, steps)[-1].exit
    index = owner = np.arange(model.contract.image_tokens)
    for step in steps.values():
        index, owner = index[step.index], step.owner[owner]
    return rows, index, owner


def model_of(kind, lead, vit, make_micro):
    if kind != "vlm":
        return vit.plain_vit(kind, lead=lead)
    return make_micro(grid=(4, 4), tower=3, width=16, lead=lead)


@pytest.mark.parametrize(
    ("kind", "lead", "kept", "proportional"),
    [
        ("vlm", 1, (12, 9, 8), True),
        ("vlm", 1, (8, 4, 2), True),
        ("vlm", 1, (3,), True),
        ("vlm", 1, (1,), True),
        ("vlm", 0, (13, 7, 6), True),
        ("classifier", 1, (12, 9, 8), False),
        ("dense", 1, (15, 8, 5), True),
        ("dense", 0, (3,), True),
        ("dense", 0, (10, 9), False),
    ],
)
def test_it_is_the_cards_in_every_block(vit, make_micro, kind, lead, kept, proportional):
    """In a dense model each token comes back as what became of the one it went into."""
    plain = model_of(kind, lead, vit, make_micro)
    budgets = dict(enumerate(kept))
    at = {f"vision:{b}": k for b, k in budgets.items()}
    ask = vit.asking(vit.shortened(plain, "tome", at, proportional=proportional))
    for seed in range(4):
        pixels = vit.picture(plain, seed)
        rows, index, owner = merge(vit, plain, pixels, budgets, proportional)
        if kind == "dense":
            rows = rows[np.concatenate([np.arange(lead), lead + owner])]
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist() and len(index) == kept[-1]
        got = found["image_features" if kind == "vlm" else "features"][0]
        np.testing.assert_allclose(got, rows, atol=1e-4, rtol=1e-3)


def test_tokens_that_are_not_in_a_pair_would_be_other_rows(vit):
    """The tests can fail: another metric, or no sizes, is another stream."""
    plain = vit.plain_vit()
    pixels = vit.picture(plain)
    rows = merge(vit, plain, pixels, {0: 10, 1: 6})[0]
    assert np.abs(rows - merge(vit, plain, pixels, {0: 10, 1: 6}, False)[0]).max() > 1e-2
    assert np.abs(rows - merge(vit, plain, pixels, {0: 11, 1: 6})[0]).max() > 1e-2


def edited(model, **arrays):
    part = model.parts["vision"].clone()
    for name, change in arrays.items():
        value = part.graph.initializers[name]
        array = np.array(value.const_value.numpy())
        value.const_value = ir.tensor(change(array), name=name)
    return model.with_parts(vision=part)


def in_fours(place):
    """Position embeddings alike for every four patches behind the class token."""
    place[0, 1:] = np.repeat(place[0, 1::4], 4, axis=0)
    return place


@pytest.mark.parametrize("kind", ["classifier", "dense"])
def test_merging_equal_tokens_changes_nothing(vit, kind):
    """T13: with log(size) on the logits; without it outputs move."""
    plain = edited(vit.plain_vit(kind), place=in_fours)
    pixels = vit.picture(plain).reshape(3, 4, 2, 8)
    pixels = np.tile(pixels[..., :2], 4).reshape(3, 8, 8)  # the four patches of a row alike
    whole = vit.asking(plain)(pixels)
    name = "logits" if kind == "classifier" else "map"
    for at in ({"vision:0": 4}, {"vision:0": 10, "vision:1": 7}):
        merged = vit.asking(vit.shortened(plain, "tome", at))(pixels)
        np.testing.assert_allclose(merged[name], whole[name], atol=1e-4)
    # without log(size); were as many in each group, that would be as good
    wrong = vit.asking(vit.shortened(plain, "tome", at, proportional=False))(pixels)
    assert np.abs(wrong[name] - whole[name]).max() > 1e-3


def test_the_class_token_is_never_merged(vit):
    """A patch that is exactly like it goes elsewhere, or stays."""
    plain = edited(vit.plain_vit(), place=lambda p: np.concatenate([p[:, 1:2], p[:, 1:]], 1),
                   **{"class": np.zeros_like})  # fmt: skip
    pixels = vit.picture(plain)
    pixels[:, :2, :2] = 0
    tower = vit.Vit.of_micro(plain)
    keys = tower(pixels)[0].k.mean(0)
    assert np.allclose(keys[0], keys[1]), "the class token and the first patch are one"
    for keep in (15, 8):
        found = vit.asking(vit.shortened(plain, "tome", {"vision:0": keep}))(pixels)
        rows, index, _ = merge(vit, plain, pixels, {0: keep}, tower=tower)
        assert found["features"].shape[1] == 1 + keep
        assert found["image_index"].tolist() == index.tolist()
        np.testing.assert_allclose(found["features"][0], rows, atol=1e-4, rtol=1e-3)


def test_no_token_gets_lost(vit):
    """T13: later attention is told of all rows that there were."""
    plain = vit.plain_vit()
    part = vit.shortened(plain, "tome", {"vision:0": 11, "vision:1": 7}).parts["vision"]
    masks = [n.inputs[3] for n in part.graph if n.op_type == "Attention" and len(n.inputs) > 3]
    part.graph.outputs.extend(masks)
    found = vit.asking(plain.with_parts(vision=part))(vit.picture(plain))
    for mask, rows in zip(masks, (12, 8), strict=True):
        sizes = np.exp(found[mask.name][0, 0, 0])
        assert len(sizes) == rows and sizes[0] == 1 and sizes.sum() == pytest.approx(17)
        assert np.allclose(sizes, sizes.round(), atol=1e-5)


def test_sizes_are_known_behind_another_method(vit, make_micro):
    """What drops tokens in between drops their sizes; later means and looks go by the others."""
    plain = make_micro(grid=(4, 4), tower=4, width=16)
    made = plain
    for at, keep, method, options in (
        ("vision:0", 12, "tome", {}),
        ("vision:1", 8, "stride", {}),
        ("vision:2", 6, "tome", {}),
        ("vision-out", 3, "visionzip", {"contextual": 0}),
    ):
        made = vit.shortened(made, method, {at: keep}, **options)
    tower, ask = vit.Vit.of_micro(plain), vit.asking(made)
    spread = ((np.arange(8) + 0.5) * 12 / 8).astype(int)
    for seed in range(4):
        first, last = Merging(1, 12), Merging(1, 6)

        def both(seen, rows, first=first):
            rows, sizes = first(seen, rows)
            return rows[[0, *(1 + spread)]], sizes[[0, *(1 + spread)]]

        seen = tower(vit.picture(plain, seed), {0: both, 2: last})[-1]
        assert 9 < seen.sizes[1:].sum() + 1 < 17
        best = np.sort(np.argsort(-seen.looked_at(1))[:3])
        found = ask(vit.picture(plain, seed))
        assert found["image_index"].tolist() == first.index[spread][last.index][best].tolist()
        rows = seen.exit[[0, *(1 + best)]]
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)


def test_the_bundled_model_at_its_default_sites(vit, in_encoder, tiny_model, tiny_vit):
    made, budgets, pictures = in_encoder("tome", "16")
    assert list(budgets) == [f"vision:{b}" for b in range(4)]
    assert made.contract.kept_image_tokens == 16
    ask = vit.asking(made)
    for pixels in pictures:
        kept = dict(enumerate(budgets.values()))
        rows, index, _ = merge(vit, tiny_model, pixels, kept, tower=tiny_vit)
        found = ask(pixels)
        assert found["image_index"].tolist() == index.tolist()
        np.testing.assert_allclose(found["image_features"][0], rows, atol=1e-3, rtol=1e-3)
