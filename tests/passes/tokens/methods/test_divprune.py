"""DivPrune against card B6 in plain numpy, against all subsets, and what the card promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def distances(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return 1 - unit @ unit.T


def card_b6(x, keep):
    """First whose nearest neighbour is farthest; then farthest from all that is taken."""
    d = distances(x.astype(np.float64))
    away = d + np.eye(len(x)) * 1e9
    taken = [int(np.argmax(away.min(1)))]
    while len(taken) < keep:
        near = d[:, taken].min(1)
        near[taken] = -np.inf
        taken.append(int(np.argmax(near)))
    return sorted(taken)


def spread(d, chosen):
    """The smallest distance between two of the chosen: what max-min makes large."""
    return min(d[i, j] for i, j in itertools.combinations(chosen, 2))


def features(seed, count=30, width=8):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("keep", [1, 2, 9, 29])
def test_t9_it_is_the_cards(select, keep):
    for seed in range(20):
        assert select("divprune", features(seed), keep).tolist() == card_b6(features(seed), keep)


def test_t6_never_under_half_the_best_angle_of_all_subsets(select):
    """Chords sqrt(2 d) are a metric, and max-min by d is max-min by chords: factor two holds
    there from any first token (Ravi, Rosenkrantz and Tayi 1994)."""
    for seed in range(20):
        x = features(seed, count=11, width=4)
        d = distances(x.astype(np.float64))
        for keep in (2, 3, 4):
            best = max(spread(d, c) for c in itertools.combinations(range(11), keep))
            got = spread(d, select("divprune", x, keep).tolist())
            assert np.sqrt(got) >= np.sqrt(best) / 2 - 1e-6


def test_t7_one_of_each_cluster_of_duplicates(select):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        centres = np.eye(12)[:6] + 0.05 * rng.normal(size=(6, 12))
        owner = rng.permutation(np.arange(30) % 6)
        chosen = select("divprune", centres[owner].astype(np.float32), 6)
        assert sorted(owner[chosen].tolist()) == list(range(6))


@pytest.mark.parametrize("keep", [1, 7, 20])
def test_t4_the_set_moves_with_the_tokens(select, keep):
    for seed in range(10):
        x, order = features(seed), np.random.default_rng(seed + 50).permutation(30)
        moved = select("divprune", x[order], keep)
        assert sorted(order[moved].tolist()) == select("divprune", x, keep).tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-20, 20))
def test_t5_turning_and_scaling_change_nothing(select, seed, power):
    x, rng = features(seed), np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    lengths = np.exp(rng.normal(size=(30, 1)))  # cosines do not see the length of a token
    moved = ((x * lengths) @ turn * 2.0**power).astype(np.float32)
    assert select("divprune", moved, 8).tolist() == card_b6(x, 8)


def test_it_grows_by_one_token_at_a_time(select):
    """What K tokens keep, K + 1 keep as well: it is greedy."""
    for seed in range(5):
        sets = [set(select("divprune", features(seed), k).tolist()) for k in (3, 4, 9, 10)]
        assert sets[0] < sets[1] < sets[2] < sets[3]
