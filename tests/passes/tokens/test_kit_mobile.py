"""Every method for targets that neither gather nor sort: without an index, and cut in pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgevlm.compiler.boundary import split_at_choice
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.pieces import call_pieces
from edgevlm.passes.mobile.four_axes import FourAxes
from edgevlm.passes.mobile.one_hot_tokens import OneHotTokens
from edgevlm.passes.tokens.methods import METHODS

KEEP, SEEDS = 6, (0, 1)
CHOOSES = {"ArgMax", "ArgMin", "Gather", "GatherElements", "GatherND", "OneHot", "ScatterElements"}
CHOOSES |= {"ScatterND", "TopK"}
#: places known when compiling: nothing is found at run time
FIXED = {"random", "stride", "horizon"}


def features(placed, hostile):
    """Rows that a product with zeros brings through: the finite ones; and ties."""
    rows = {str(seed): placed.rows(seed) for seed in SEEDS}
    rows |= hostile(placed.count, placed.width)
    return {name: x for name, x in rows.items() if np.isfinite(x).all() and np.abs(x).max() < 1e3}


def without_index(placed):
    result = FourAxes()(OneHotTokens()(placed.model).model)
    return replace(placed, model=result.model)


def same(placed, fed):
    """Bit for bit: the sums of a one-hot product have one term that is not zero."""
    other = without_index(placed)
    assert not {n.op_type for n in other.model.parts[placed.role].graph} & CHOOSES
    for name, rows in fed.items():
        before, after = placed.run(rows), other.run(rows)
        for port, value in before.items():
            np.testing.assert_array_equal(after[port], value, err_msg=f"{name}: {port}")
    assert not OneHotTokens()(other.model).changed


def test_without_an_index_all_is_the_same(method_at, place, hostile):
    placed = place(*method_at, KEEP)
    same(placed, features(placed, hostile))


def test_and_where_ends_of_runs_stand_for_what_left(own_at, place):
    """Rows are scattered then."""
    if METHODS[own_at[0]].restore == "none":
        placed = place(*own_at, KEEP, position="run-end-pad")
        same(placed, {"random": placed.rows(0)})


def test_what_is_no_number_still_gives_k_ascending_places(own_at, place, hostile):
    """A row that is not finite spoils others in a product; the promise of a choice is kept."""
    placed = place(*own_at, KEEP)
    other = without_index(placed)
    for name, rows in hostile(placed.count, placed.width).items():
        index = other.choose(rows)
        assert index.shape == (KEEP,) and index[0] >= 0 and index[-1] < placed.count, name
        assert (np.diff(index) > 0).all(), (name, index)


def test_pieces_one_behind_the_other_are_the_whole(method_at, place, hostile):
    placed = place(*method_at, KEEP)
    part = placed.model.parts[placed.role]
    pieces = split_at_choice(part, placed.role)
    sessions = {piece.name: open_session(piece.part) for piece in pieces}

    def call(piece, feeds):
        names = [port.name for port in piece.outputs]
        return dict(zip(names, sessions[piece.name].run(names, feeds), strict=True))

    for rows in features(placed, hostile).values():
        feeds = {k: v for k, v in placed.feeds(rows).items()
                 if k in {v.name for v in part.graph.inputs}}  # fmt: skip
        found = call_pieces(pieces, call, feeds)
        for port, value in placed.run(rows).items():
            np.testing.assert_array_equal(found[port], value, err_msg=port)


def test_the_device_gets_what_it_runs_and_the_host_what_chooses(method_at, place):
    placed = place(*method_at, KEEP)
    part = placed.model.parts[placed.role]
    pieces = split_at_choice(part, placed.role)
    if method_at[0] in FIXED:
        assert [p.part for p in pieces] == [part]
        return
    assert len(pieces) > 1 and pieces[1].name == f"{placed.role}_a_to_b"
    turns = ["device", "host"] * len(pieces)
    assert [p.runs for p in pieces] == turns[: len(pieces)]
    for piece in pieces:
        kinds = {n.op_type for n in piece.part.graph}
        if piece.runs == "device":
            assert not kinds & {"TopK", "ArgMax", "ArgMin"}
        else:
            assert not kinds & {"Attention", "Conv"}
            assert not any(_is_layer(node) for node in piece.part.graph)
    needed = part.clone()
    RemoveUnusedNodesPass()(needed)  # taps that the method had no use for
    assert sum(len(p.part.graph) for p in pieces) == len(needed.graph)


def _is_layer(node) -> bool:
    return node.op_type in ("MatMul", "Gemm") and node.inputs[1].const_value is not None
