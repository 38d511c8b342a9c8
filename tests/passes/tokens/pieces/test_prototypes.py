"""Sinks and dead tokens, planted among tokens that have nothing in common."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.passes.tokens.pieces import prototypes
from edgevlm.passes.tokens.pieces.prototypes import find_prototypes

WIDTH = 48


def pictures(seed, count=8, tokens=40, sinks=4, dead=12, noise=0.02, loose=0.2):
    """(tokens [P,N,D], sink direction, dead direction): the first `sinks`, then the dead."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, 2)))[0].T
    made = rng.normal(size=(count, tokens, WIDTH)) / np.sqrt(WIDTH)
    for start, size, which, spread in ((0, sinks, 0, noise), (sinks, dead, 1, loose)):
        around = rng.normal(size=(count, size, WIDTH)) / np.sqrt(WIDTH) * spread
        made[:, start : start + size] = directions[which] + around
    return made.astype(np.float32), *directions


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_planted_directions_are_found_with_what_they_are():
    tokens, sink, dead = pictures(0)
    found = find_prototypes(tokens, 8)
    assert [p.kind for p in found] == ["sink", "dead"]
    assert cosine(found[0].direction, sink) > 0.999 and cosine(found[1].direction, dead) > 0.99
    assert (found[0].tokens, found[0].pictures) == (32, 8)
    assert 80 <= found[1].tokens <= 96 and found[1].pictures == 8
    assert all(abs(np.linalg.norm(p.direction) - 1) < 1e-6 for p in found)


def test_disjoint_pictures_give_the_same_prototypes():
    """The card's test: stable across calibration splits, cosine over .98."""
    one, two = (find_prototypes(pictures(seed)[0], 8) for seed in (1, 2))
    assert [p.kind for p in one] == [p.kind for p in two] == ["sink", "dead"]
    assert all(cosine(a.direction, b.direction) > 0.98 for a, b in zip(one, two, strict=True))


def test_what_one_picture_alone_has_is_not_common():
    tokens, _, _ = pictures(3, sinks=0, dead=0)
    tokens[2] = tokens[2, :1]  # one picture of one token, repeated
    assert find_prototypes(tokens, 8) == []
    tokens[5] = tokens[2]
    (found,) = find_prototypes(tokens, 8)
    assert (found.kind, found.pictures, found.tokens) == ("dead", 2, 80)  # in two of eight


def test_the_largest_first_and_no_more_than_asked_for():
    tokens, _, dead = pictures(0)
    assert [p.kind for p in find_prototypes(tokens, 0, sink=0.999, dead=0.9)] == ["dead"]
    (only,) = find_prototypes(tokens, 8, sink=0.9999, dead=0.9)
    assert only.kind == "dead" and cosine(only.direction, dead) > 0.9
    spread = [p.kind for p in find_prototypes(tokens, 3, sink=0.9)]
    assert spread.count("dead") <= 1 and len(spread) <= 4


def test_empty_tokens_and_few_rows():
    assert find_prototypes(np.zeros((3, 5, 4), np.float32), 8) == []
    assert find_prototypes(np.ones((1, 5, 4), np.float32), 8) == []


def test_many_tokens_are_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr(prototypes, "MOST_ROWS", 200)
    tokens, sink, dead = pictures(0, count=10)
    found = find_prototypes(tokens, 8)
    assert [p.kind for p in found] == ["sink", "dead"] and found[0].tokens == pytest.approx(
        20, abs=5
    )
    assert cosine(found[0].direction, sink) > 0.99 and cosine(found[1].direction, dead) > 0.98
