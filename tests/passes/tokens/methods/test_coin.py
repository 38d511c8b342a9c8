"""CoIn: the sum of a score and a log-determinant, greedily, against determinants themselves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keep_tokens import KeepTokens


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def minmax(s, least=1e-30):
    return (s - s.min()) / max(s.max() - s.min(), least)


def score(prompt, beta):
    image, text = prompt.x[prompt.image], prompt.x[prompt.words].mean(0)
    return beta * minmax(np.linalg.norm(image, axis=1)) + (1 - beta) * minmax(
        unit(image) @ unit(text)
    )


def volume(prompt, ridge, normalised=True):
    image = prompt.x[prompt.image]
    rows = unit(image) if normalised else image / np.linalg.norm(image, axis=1).max()
    return rows @ rows.T + ridge * np.eye(len(rows))


def greedy(s, matrix, alpha, keep):
    """Gains from determinants, min-maxed over the tokens still to be had."""
    taken = []
    for _ in range(keep):
        rest = [i for i in range(len(s)) if i not in taken]
        gains = [np.linalg.slogdet(matrix[np.ix_(*[[*taken, i]] * 2)])[1] for i in rest]
        worth = (1 - alpha) * s[rest] + alpha * minmax(np.array(gains), 1e-3).round(9)
        taken.append(rest[int(np.argmax(worth))])
    return sorted(taken)


@pytest.mark.parametrize(
    ("keep", "options"),
    [
        (1, {}),
        (2, {}),
        (19, {}),
        (6, {"alpha": 0.8, "beta": 0.1, "ridge": 0.1}),
        (6, {"normalised": False}),
        (6, {"beta": 1.0}),
    ],
)
def test_it_is_the_cards(in_micro, keep, options):
    o = {"alpha": 0.5, "beta": 0.5, "ridge": 0.01, "normalised": True} | options
    for seed in range(4):
        got = in_micro("coin", "llm:0", keep, seed, asked=seed, **options)
        matrix = volume(got.prompt, o["ridge"], o["normalised"])
        want = greedy(score(got.prompt, o["beta"]), matrix, o["alpha"], keep)
        assert got.index(0).tolist() == want


def test_alpha_0_is_the_score_alone_and_alpha_1_the_volume_alone(in_micro, llama):
    for seed in range(4):
        got = in_micro("coin", "llm:0", 6, seed, alpha=0.0)
        assert llama.is_top(got.index(0), score(got.prompt, 0.5))
        got = in_micro("coin", "llm:0", 6, seed, alpha=1.0)
        want = greedy(np.zeros(20), volume(got.prompt, 0.01), 1.0, 6)
        assert got.index(0).tolist() == want


def test_alpha_turns_from_one_to_the_other(in_micro):
    """T8: the score of what is kept falls as alpha grows, and its volume grows.

    Greedy volume is no optimum, so that a little of the score may even help it at the end.
    """
    alphas, scores, volumes = (0.0, 0.2, 0.5, 0.8, 1.0), [], []
    for alpha in alphas:
        s, v = [], []
        for seed in range(8):
            got = in_micro("coin", "llm:0", 6, seed, alpha=alpha)
            index, matrix = got.index(0), volume(got.prompt, 0.01)
            s.append(score(got.prompt, 0.5)[index].sum())
            v.append(np.linalg.slogdet(matrix[np.ix_(index, index)])[1])
        scores.append(np.mean(s))
        volumes.append(np.mean(v))
    assert scores == sorted(scores, reverse=True) and volumes[:3] == sorted(volumes[:3])
    assert scores[0] > scores[-1] and volumes[0] < volumes[2] < volumes[-1]


def test_the_volume_is_not_far_from_the_best_of_all_subsets(in_micro):
    """T6: with a ridge of 1 log det is monotone and submodular, so greedy reaches 1 - 1/e."""
    for seed in range(6):
        got = in_micro("coin", "llm:0", 4, seed, alpha=1.0, ridge=1.0, sizes=(("grid", (3, 4)),))
        matrix = volume(got.prompt, 1.0)
        found = [np.linalg.slogdet(matrix[np.ix_(s, s)])[1] for s in combinations(range(12), 4)]
        index = got.index(0)
        mine = np.linalg.slogdet(matrix[np.ix_(index, index)])[1]
        assert mine >= (1 - 1 / np.e) * max(found)


def test_the_token_form_and_the_channel_form_of_the_determinant_agree(in_micro):
    """Why the small one may be used: they differ by a constant."""
    rows = unit(np.random.default_rng(0).normal(size=(5, 16)))
    small = np.linalg.slogdet(0.1 * np.eye(5) + rows @ rows.T)[1]
    large = np.linalg.slogdet(0.1 * np.eye(16) + rows.T @ rows)[1]
    assert np.isclose(large, (16 - 5) * np.log(0.1) + small)


def test_one_of_each_planted_cluster(in_micro):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        kinds, label = rng.normal(size=(5, 16)), rng.permutation(np.arange(20) % 5)
        got = in_micro("coin", "llm:0", 5, rows=kinds[label], alpha=1.0)
        assert sorted(label[got.index(0)]) == [0, 1, 2, 3, 4]


def test_the_question_counts_unless_it_is_weighed_with_nothing(in_micro):
    def kept(**options):
        return {tuple(in_micro("coin", "llm:0", 6, asked=n, **options).index(0)) for n in range(5)}

    assert len(kept()) > 1 and len(kept(beta=1.0)) == 1 and len(kept(alpha=1.0)) == 1
    assert in_micro("coin", "llm:0", 6, idle=40.0).index(0).tolist() in [list(k) for k in kept()]


def test_the_bundled_model_at_its_default_site(in_tiny):
    model, found = in_tiny("coin")
    assert [s.layer for s in model.contract.sites] == [0]
    for got in found:
        want = greedy(score(got.prompt, 0.5), volume(got.prompt, 0.01), 0.5, 16)
        assert got.index(0).tolist() == want


def test_what_it_refuses(tiny_model):
    for options in ({"alpha": 1.5}, {"ridge": 1e-6}, {"gamma": 1}):
        with pytest.raises(UsageFault) as caught:
            KeepTokens(keep=9, method="coin", at="llm:0", options=options)
        assert caught.value.code == "EV202" and next(iter(options)) in caught.value.what
    with pytest.raises(UsageFault, match="no text is seen there"):
        KeepTokens(keep=9, method="coin", at="connector-out")(tiny_model)
    with pytest.raises(UsageFault, match="no division, root or exponential"):
        KeepTokens(keep=9, method="coin", at="llm:0", form="fpga")(tiny_model)
