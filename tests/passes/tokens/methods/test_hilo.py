"""Hi-Lo Prune: spread on pixels, on features, and the fused attention beside a float64 Llama."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import Site


def spread(x, keep):
    """Greedy max-min in cosine distance, from the most isolated token on."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    away = np.maximum(1 - unit @ unit.T, 0)
    taken = [int(np.argmax((away + 1e9 * np.eye(len(x))).min(1)))]
    while len(taken) < keep:
        near = away[taken].min(0)
        near[taken] = -1
        taken.append(int(np.argmax(near)))
    return sorted(taken)


def leaning(llama, model, leaving, depth, gain, least, nearest):
    """The Llama with fused attention in its first `depth` layers."""

    class Leaning(llama.Llama):
        def _layer(self, layer, x, turn, allowed):
            plain = super()._layer(layer, x, turn, allowed)
            if next(i for i, each in enumerate(self.layers) if each is layer) >= depth:
                return plain
            logits = plain.q @ plain.k.transpose(0, 2, 1) / np.sqrt(self.dim)
            factor = np.ones_like(logits)
            stays = np.setdiff1d(np.arange(len(x)), leaving)
            for head in range(len(logits)):
                for i in stays:
                    best = sorted(leaving, key=lambda j: -plain.share[head, i, j])[:nearest]
                    for j in best:
                        if plain.share[head, i, j] > least:
                            factor[head, i, j] = 1 + gain
            share = llama.softmax(np.where(allowed, logits * factor, -np.inf))
            v = self.heads(plain.normed @ layer.w["v"])
            v = np.repeat(v, len(share) // len(v), 0)
            attended = (share @ v).transpose(1, 0, 2).reshape(len(x), -1) @ layer.w["o"]
            mlp_normed = self.norm(x + attended, layer.norms[1])
            out = layer.mlp(mlp_normed)
            made = (plain.entry, plain.normed, plain.plain_q, plain.plain_k, plain.q, plain.k)
            return llama.Seen(*made, share, attended, mlp_normed, out)

    return Leaning(model.layers, model.speed, model.eps, model.last, model.head)


def logits_of(llama, got, depth, gain, least, nearest):
    """What the reference says: fused in front of the site, keys of what left hidden behind it."""
    prompt, rows = got.prompt, len(got.prompt.x)
    leaving = prompt.start + np.setdiff1d(np.arange(prompt.count), got.index(depth))
    model = leaning(llama, got.llama, leaving, depth, gain, least, nearest)
    sees = [
        llama.causal(rows, leaving if layer >= depth else ())
        for layer in range(len(got.llama.layers))
    ]
    return model(prompt.x, prompt.positions, sees).logits[-1]


def decibels(want, got):
    return measure(want.astype(np.float32), got, "logits").sqnr_db


@pytest.mark.parametrize("keep", [1, 6, 19])
def test_coarse_goes_by_pixels(spied, keep):
    for seed in range(4):
        rows = np.random.default_rng(seed).normal(size=(20, 12)).astype(np.float32)
        assert spied("hilo", "vision-out", keep, rows=rows)[1].tolist() == spread(rows, keep)


@pytest.mark.parametrize(("keep", "depth"), [(1, 2), (6, 0), (19, 1)])
def test_fine_goes_by_features_as_they_are_given(in_micro, keep, depth):
    for seed in range(3):
        got = in_micro("hilo", f"llm:{depth}", keep, seed)
        assert got.index(depth).tolist() == spread(got.prompt.x[got.prompt.image], keep)


@pytest.mark.parametrize(
    ("gain", "threshold", "nearest", "depth", "kv_heads"),
    [
        (0.5, 0, 8, 1, 2),
        (0.5, 0, 8, 2, 4),
        (2.0, 0.02, 2, 2, 1),
        (1.0, 1e-9, 50, 1, 2),
        (0.5, 0.2, 1, 2, 4),
    ],
)
def test_attention_leans_as_the_formula_says(
    in_micro, llama, gain, threshold, nearest, depth, kv_heads
):
    options = {"gain": gain, "threshold": threshold, "nearest": nearest}
    fused = 0
    for seed in range(3):
        sizes = (("kv_heads", kv_heads),)
        got = in_micro("hilo", f"llm:{depth}", 6, seed, asked=seed, sizes=sizes, **options)
        least = threshold or 1 / 26  # 20 image rows and 6 of words
        want = logits_of(llama, got, depth, gain, least, nearest)
        assert decibels(want, got.out["logits"][0]) > 80
        fused += (
            decibels(logits_of(llama, got, depth, 0.0, least, nearest), got.out["logits"][0]) < 60
        )
    assert fused >= 2, "and without it the answer is another one"


def test_without_gain_it_is_the_two_choices_alone(in_micro, llama):
    """T1: dropping is masking then, and no attention is computed twice."""
    for seed in range(3):
        got = in_micro("hilo", "llm:2", 6, seed, gain=0.0)
        assert decibels(logits_of(llama, got, 2, 0.0, 1, 1), got.out["logits"][0]) > 80


def test_only_columns_of_what_leaves_and_rows_of_what_stays_change(in_micro, put_in, small):
    made = put_in(small(), "hilo", "llm:1", 6, threshold=1e-9, gain=1.0)
    attention = next(n for n in made.model.parts["prefill"].graph if n.op_type == "Attention")
    from edgevlm.compiler.executor import open_session

    part = made.model.parts["prefill"]
    bias = attention.inputs[3]
    session = open_session(part, outputs=(bias,))
    for seed in range(3):
        feeds = made.feeds(made.rows(seed))
        out = session.run([bias.name, "image_index_1"], feeds)
        left = 2 + np.setdiff1d(np.arange(20), out[1])
        assert out[0].shape == (1, 4, 26, 26) and len(left) == 14
        rest = np.setdiff1d(np.arange(26), left)
        assert not out[0][..., rest].any() and not out[0][:, :, left].any()
        some = out[0][0][:, rest][:, :, left] != 0
        assert some.any() and some.sum(-1).max() <= 8


def test_budgets_and_default_sites():
    method = METHODS["hilo"]()
    sites = method.default_sites(32, 24)
    assert [str(s) for s in sites] == ["vision-out", "llm:2"]
    assert [str(s) for s in method.default_sites(1, 24)] == ["vision-out", "llm:0"]
    assert method.budgets(576, 64, sites) == [237, 64]
    assert method.budgets(64, 60, sites) == [64, 60]
    assert METHODS["hilo"](fused=0).budgets(64, 16, sites) == [16, 16]
    assert method.budgets(64, 16, [Site.at("vision-out")]) == [16]


def test_the_bundled_model_at_its_default_sites(in_tiny, in_tower, llama, tiny_probes):
    model, found = in_tiny("hilo")
    assert model.contract.vision_kept == 35 and model.contract.sites[0].tokens == 16
    _, towers = in_tower("hilo")
    for got, (_, embeds, kept), probe in zip(found, towers, tiny_probes[::4], strict=True):
        patches = probe.pixel_values.reshape(3, 8, 8, 8, 8).transpose(1, 3, 0, 2, 4).reshape(64, -1)
        away = spread_scores(patches.astype(np.float64), kept.index)
        assert away
        x = got.prompt.x[got.prompt.image]
        assert np.allclose(x, embeds[kept.index], atol=1e-4)
        want = logits_of(llama, got, 2, 0.5, 1 / (35 + 32), 8)
        assert decibels(want, got.out["logits"][0]) > 60


def spread_scores(x, index):
    """Whether `index` is a greedy max-min choice, whichever of equally far tokens it took."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    unit = x / np.maximum(norm, 1e-12)
    away = np.maximum(1 - unit @ unit.T, 0)
    alone = (away + 1e9 * np.eye(len(x))).min(1)
    taken = [max(index, key=lambda i: alone[i])]
    if alone[taken[0]] < alone.max() - 1e-5:
        return False
    while len(taken) < len(index):
        near = away[taken].min(0)
        mine = max((i for i in index if i not in taken), key=lambda i: near[i])
        if near[mine] < max(near[i] for i in range(len(x)) if i not in taken) - 1e-5:
            return False
        taken.append(mine)
    return True


def test_what_it_refuses(put_in, small):
    first = put_in(small(), "stride", "llm:1", 9).model
    with pytest.raises(UsageFault, match="features of all tokens") as caught:
        put_in(first, "hilo", "llm:2", 5)
    assert caught.value.code == "EV230"
    with pytest.raises(UsageFault):
        METHODS["hilo"](gain=-1)
