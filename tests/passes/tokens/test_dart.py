"""dart against an implementation of card B9 in plain numpy, and against what the card promises."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.passes.tokens.methods.dart import Dart

PIVOTS = Dart().options.pivots
SIZES = [(16, 8), (49, 12), (64, 128)]


def card_b9(tokens, keep):
    """Pivots are the tokens of largest L1 norm; each adds the tokens least like it, in turn.

    Cosines that differ by rounding alone, which some processors' products do and others' do not,
    are ties.
    """
    tokens = np.asarray(tokens, np.float64)
    unit = tokens / np.maximum(np.linalg.norm(tokens, axis=1, keepdims=True), 1e-30)
    pivots = sorted(range(len(tokens)), key=lambda i: (-np.abs(tokens[i]).sum(), i))[:PIVOTS]
    chosen = list(pivots[:keep])
    left = max(0, keep - PIVOTS)
    for place, pivot in enumerate(pivots):
        share = left // PIVOTS + (place < left % PIVOTS)
        free = [i for i in range(len(tokens)) if i not in chosen]
        chosen += sorted(free, key=lambda i: (round(unit[i] @ unit[pivot], 9), i))[:share]
    return sorted(chosen)


def features(seed, count, width):
    return np.random.default_rng(seed).normal(size=(count, width))


@pytest.mark.parametrize(("count", "width"), SIZES, ids=str)
@pytest.mark.parametrize("part", [0.05, 0.25, 0.3, 0.7, 1.0])
def test_t9_it_is_the_card_index_for_index(select, count, width, part):
    keep = max(1, int(count * part))
    for seed in range(25):
        tokens = features(seed, count, width)
        assert select("dart", tokens, keep).tolist() == card_b9(tokens, keep), seed


def test_t9_ties_go_to_the_lower_index(select):
    """Tokens along the axes: equal strengths and equal cosines are equal in any arithmetic."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        tokens = np.zeros((16, 4))
        tokens[np.arange(16), rng.integers(0, 4, 16)] = 3 * rng.integers(-1, 2, 16)
        keep = int(rng.integers(1, 17))
        assert select("dart", tokens, keep).tolist() == card_b9(tokens, keep)


@pytest.mark.parametrize("form", ["tensorrt", "fpga"])
def test_t9_keys_take_what_rounding_tore_apart_for_ties_too(select, form):
    """Small integers: cosines that are equal but for the order of two products."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        tokens = rng.integers(-1, 2, (16, 2)) * np.float64(3)
        keep = int(rng.integers(1, 17))
        assert select("dart", tokens, keep, form).tolist() == card_b9(tokens, keep)


@pytest.mark.parametrize("keep", [1, 4, 5, 16, 40])
def test_t4_the_set_moves_with_the_tokens(select, keep):
    for seed in range(10):
        tokens = features(seed, 49, 12)
        order = np.random.default_rng(seed + 100).permutation(49)
        moved = select("dart", tokens[order], keep)
        assert sorted(order[moved].tolist()) == select("dart", tokens, keep).tolist()


def test_t4_stride_does_not_look_at_the_tokens(select):
    assert np.array_equal(
        select("stride", features(0, 49, 12), 9), select("stride", features(1, 49, 12), 9)
    )


@pytest.mark.parametrize("factor", [2.0**60, 2.0**-60, -1.0, 0.37, -3e5, 1e-12, 1e20])
def test_t5_a_common_factor_changes_nothing(select, factor):
    for seed in range(10):
        tokens = features(seed, 49, 12)
        assert np.array_equal(select("dart", tokens * factor, 13), select("dart", tokens, 13))


def test_t5_a_rotation_changes_no_cosine(select):
    """Pivots go by L1 norm, which a rotation does change: with strong pivots they stay the same."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    for seed in range(10):
        tokens = features(seed, 49, 12)
        tokens[:PIVOTS] *= np.array([[800], [400], [200], [100]])
        assert np.array_equal(select("dart", tokens @ turn, 13), select("dart", tokens, 13))


@pytest.mark.parametrize("keep", [PIVOTS + 1, 8, 16, 32])
def test_t7_a_token_unlike_all_others_survives(select, keep):
    for place in range(0, 64, 7):
        rng = np.random.default_rng(place)
        tokens = rng.normal(size=32) + 0.1 * rng.normal(size=(64, 32))
        tokens[place] = -0.5 * tokens[(place + 1) % 64]  # weak, so never a pivot, and opposite
        assert place in select("dart", tokens, keep)


def test_t7_the_strongest_tokens_survive(select):
    for seed in range(10):
        tokens = features(seed, 49, 12)
        strong = [3, 17, 30, 44]
        tokens[strong] *= 10
        for keep in (4, 5, 20):
            assert set(strong) <= set(select("dart", tokens, keep).tolist())


def test_rounding_moves_few_indices_of_generic_tokens(select):
    """Int8-like noise of 0.5 %: the sets stay close, and near-duplicates are where they part."""
    rng = np.random.default_rng(0)
    overlaps = []
    for seed in range(20):
        tokens = features(seed, 64, 32)
        noisy = tokens * (1 + 0.005 * rng.normal(size=tokens.shape))
        a, b = (set(select("dart", t, 16).tolist()) for t in (tokens, noisy))
        overlaps.append(len(a & b) / len(a | b))
    assert np.mean(overlaps) > 0.9
