"""T4: permute the tokens and the set moves with them, for every method that says so of itself.

What else tells tokens apart is taken out of the miniature: the tower has no position embeddings,
the decoder's attention adds nothing to its stream, and positions move with their tokens.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.passes.tokens.methods import METHODS

SEEDS = range(12)
#: of those: two tokens that are each other's nearest tie in any arithmetic, and a tie has to go by
#: place; where such a pair is the most isolated of all, greedy choices may part for good
TIES = 1


@pytest.fixture(scope="module")
def blind(small):
    """The miniature without positions, and without what causality does to the stream."""
    model = small(places=False)
    part = model.parts["prefill"].clone()
    for name, value in part.graph.initializers.items():
        if name.startswith("wo_"):
            value.const_value = ir.tensor(np.zeros_like(value.const_value.numpy()), name=name)
    return model.with_parts(prefill=part)


def moved(placed, seed):
    """(what is chosen of permuted tokens, told by their old places; what is chosen as they are)"""
    rows = placed.rows(seed)
    order = np.random.default_rng(seed + 100).permutation(len(rows))
    more = {"positions": order} if placed.role == "prefill" else {}
    return np.sort(order[placed.choose(rows[order], **more)]), placed.choose(rows)


def test_t4_the_set_moves_with_the_tokens(equivariant_at, put_in, blind):
    placed = put_in(blind, *equivariant_at, 7)
    apart = [seed for seed in SEEDS if not np.array_equal(*moved(placed, seed))]
    assert len(apart) <= TIES, apart


@pytest.mark.parametrize("at", ["connector-out", "vision-out", "vision:2", "llm:2"])
@pytest.mark.parametrize("name", ["random", "stride"])
def test_t4_can_fail(put_in, blind, name, at):
    """A choice by place does not move, whatever the site."""
    assert METHODS[name].permutation != "equivariant"
    placed = put_in(blind, name, at, 5)
    apart = [seed for seed in SEEDS if not np.array_equal(*moved(placed, seed))]
    assert len(apart) > 10 * TIES
