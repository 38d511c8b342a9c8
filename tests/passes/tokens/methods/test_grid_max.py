"""grid-max: exactly K cells that share the grid out, and the strongest token of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.pieces.cells import cut_grid


def expected(score, rows, columns, keep):
    return sorted(int(cell[np.argmax(score[cell])]) for cell in cut_grid(rows, columns, keep))


@given(data=st.data())
def test_any_number_of_cells_shares_any_grid_out(data):
    rows, columns = data.draw(st.integers(1, 17)), data.draw(st.integers(1, 17))
    cells = cut_grid(rows, columns, data.draw(st.integers(1, rows * columns)))
    assert sorted(np.concatenate(cells).tolist()) == list(range(rows * columns))
    for cell in cells:
        high, wide = np.divmod(cell, columns)
        assert (np.diff(cell) > 0).all()
        box = (np.ptp(high) + 1) * (np.ptp(wide) + 1)
        assert len(cell) == box, "a cell is a rectangle"


def test_cells_are_as_even_and_as_square_as_the_number_lets_them():
    assert [len(c) for c in cut_grid(8, 8, 16)] == [4] * 16
    assert cut_grid(8, 8, 16)[0].tolist() == [0, 1, 8, 9]
    assert [len(c) for c in cut_grid(24, 24, 64)] == [9] * 64
    assert {c[-1] - c[0] for c in cut_grid(2, 8, 16)} == {0}
    assert [len(c) for c in cut_grid(8, 8, 1)] == [64]


@pytest.mark.parametrize("grid", [(4, 5), (1, 13), (7, 2)], ids=str)
def test_the_longest_token_of_every_cell_stays(spied, grid):
    for keep in (1, 3, grid[0] * grid[1] - 1):
        for seed in range(3):
            tokens, index, _ = spied("grid-max", "connector-out", keep, seed, grid=grid)
            score = np.linalg.norm(tokens, axis=1)
            assert index.tolist() == expected(score, *grid, keep)


def test_equal_tokens_go_to_the_first_of_a_cell(spied):
    _, index, _ = spied("grid-max", "llm:0", 7, rows=np.ones((20, 16)))
    assert index.tolist() == sorted(int(c[0]) for c in cut_grid(4, 5, 7))


def test_it_goes_by_length_and_by_nothing_else(spied):
    """Directions do not matter, and a planted long token wins its cell wherever it lies."""
    for place in range(20):
        rows = np.random.default_rng(place).normal(size=(20, 16))
        rows[place] *= 50
        assert place in spied("grid-max", "llm:0", 6, rows=rows)[1]


def test_class_attention_where_the_site_has_it(in_tower, tiny_model, tiny_probes):
    _, found = in_tower("grid-max:score=class", "16", "vision-out")
    attention = [n for n in tiny_model.parts["vision"].graph if n.op_type == "Attention"][-1]
    session = open_session(tiny_model.parts["vision"], outputs=tuple(attention.inputs[:2]))
    names = [v.name for v in attention.inputs[:2]]
    for probe, (_, _, kept) in zip(tiny_probes[::4], found, strict=True):
        q, k = (a[0] for a in session.run(names, {"pixel_values": probe.pixel_values}))
        logits = q[:, :1].astype(np.float64) @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        share = np.exp(logits - logits.max(-1, keepdims=True))
        share = (share / share.sum(-1, keepdims=True)).mean(0)[0, 1:]
        assert kept.index.tolist() == expected(share, 8, 8, 16)


def test_the_bundled_model_at_its_default_site(in_tower):
    model, found = in_tower("grid-max", "11")
    assert model.contract.kept_image_tokens == 11
    for _, embeds, kept in found:
        score = np.linalg.norm(embeds.astype(np.float64), axis=1)
        assert kept.index.tolist() == expected(score, 8, 8, 11)
        assert np.array_equal(kept.embeds[0], embeds[kept.index])


def test_what_it_refuses(put_in, small):
    with pytest.raises(UsageFault, match="needs the class token's attention") as caught:
        put_in(small(), "grid-max", "connector-out", 5, score="class")
    assert caught.value.code == "EV230"
    first = put_in(small(), "stride", "llm:1", 9).model
    with pytest.raises(UsageFault, match="the whole grid"):
        put_in(first, "grid-max", "llm:2", 5)
