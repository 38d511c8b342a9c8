"""Rounds: the factorised maximum is exact, budgets are met whatever the chain."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.pieces.rounds import round_sizes


@given(seed=st.integers(0, 999), count=st.integers(2, 12), weight=st.floats(0, 50))
def test_the_maximum_factorises(seed, count, weight):
    """max_j M_ij (1 + w d_i) = (1 + w d_i) max_j M_ij, since the factor is positive."""
    rng = np.random.default_rng(seed)
    like, near = rng.normal(size=(count, count)), rng.random(count)
    whole = (like * (1 + weight * near)[:, None]).max(1)
    np.testing.assert_array_equal(whole, (1 + weight * near) * like.max(1))


@given(
    picks=st.integers(1, 600),
    batch=st.integers(1, 70),
    used=st.integers(0, 60),
    steps=st.integers(1, 300),
)
def test_rounds_make_the_budget_within_the_chain(picks, batch, used, steps):
    notes = []
    form = replace(FORMS["ort"], steps=steps)
    view = SimpleNamespace(form=form, note=notes.append)
    sizes = round_sizes(view, picks, batch, used)
    assert sum(sizes) == picks and min(sizes) > 0
    assert len(sizes) <= max(1, steps - used)
    if -(-picks // batch) <= max(1, steps - used):
        assert sizes[:-1] == [batch] * (len(sizes) - 1) and not notes
    else:
        assert notes and max(sizes) - min(sizes) <= 1
