"""four-axes: moves on five and six axes are written with four, bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.mobile.four_axes import FourAxes

RNG = np.random.default_rng(0)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def fed(*shape: int) -> dict[str, np.ndarray]:
    return {"x": RNG.normal(size=shape).astype(np.float32)}


def rank(part) -> int:
    return max(len(v.shape) for node in part.graph for v in node.outputs)


def kinds(result) -> list[str]:
    return [n.op_type for n in result.model.parts["vision"].graph]


def matched(result) -> list[str]:
    return [n.why for n in result.notes if n.kind == "matched"]


MOVES = "a = Reshape(x, s) b = Transpose<perm={perm}>(a) c = Reshape(b, t) y = Neg(c)"
CHAINS = {  # shape of x, Reshape, Transpose, Reshape, how many transposes are needed
    "space to depth, as SmolVLM's connector does": (
        (1, 64, 24), (1, 4, 2, 4, 2, 24), (0, 1, 3, 2, 4, 5), (1, 16, 96), 1
    ),
    "pixel shuffle": ((1, 12, 6, 6), (1, 3, 2, 2, 6, 6), (0, 1, 4, 2, 5, 3), (1, 3, 12, 12), 2),
    "pixel unshuffle": ((1, 3, 8, 8), (1, 3, 4, 2, 4, 2), (0, 1, 3, 5, 2, 4), (1, 12, 4, 4), 2),
    "windows": ((1, 8, 8, 6), (1, 2, 4, 2, 4, 6), (0, 1, 3, 2, 4, 5), (4, 16, 6), 1),
    "windows back": ((4, 16, 6), (1, 2, 2, 4, 4, 6), (0, 1, 3, 2, 4, 5), (1, 8, 8, 6), 1),
    "patches": ((1, 3, 8, 8), (1, 3, 2, 4, 2, 4), (0, 2, 4, 3, 5, 1), (1, 4, 48), 2),
    "heads of two towers": ((2, 5, 24), (2, 5, 3, 2, 4), (2, 0, 3, 1, 4), (6, 2, 5, 4), 2),
    "no change": ((1, 2, 3, 4), (1, 2, 1, 3, 4), (0, 2, 1, 3, 4), (2, 3, 4), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_moves(name, graph, apply):
    shape, inner, perm, outer, turns = CHAINS[name]
    part = graph(
        f"(float[{','.join(map(str, shape))}] x) => (float[{','.join(map(str, outer))}] y) "
        f"{{ {MOVES.format(perm=list(perm))} }}",
        s=i64(*inner),
        t=i64(*outer),
    )
    assert rank(part) > 4
    result = apply(FourAxes(), part, **fed(*shape))
    assert rank(result.model.parts["vision"]) <= 4 and kinds(result).count("Transpose") == turns
    assert matched(result) == ["1 moves and 0 ops with at most 4 axes"] and len(result.notes) == 1


@settings(max_examples=40)
@given(data=st.data())
def test_any_permutation_of_up_to_six_axes(data, graph, apply):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=5, max_size=6))
    perm = data.draw(st.permutations(range(len(shape))))
    size = math.prod(shape)
    part = graph(
        f"(float[{size}] x) => (float[{size}] y) {{ {MOVES.format(perm=perm)} }}",
        s=i64(*shape),
        t=i64(size),
    )
    result = apply(FourAxes(), part, **fed(size))
    assert result.changed and rank(result.model.parts["vision"]) <= 4
    assert kinds(result).count("Transpose") <= 2


def test_keys_repeated_for_heads_that_share_them(graph, apply):
    part = graph(
        "(float[1,2,5,4] x) => (float[1,6,5,4] y) { u = Unsqueeze(x, two) e = Expand(u, wide)"
        " r = Reshape(e, whole) y = Neg(r) }",
        two=i64(2), wide=i64(1, 2, 3, 5, 4), whole=i64(1, 6, 5, 4),
    )  # fmt: skip
    result = apply(FourAxes(), part, **fed(1, 2, 5, 4))
    assert kinds(result) == ["Reshape", "Expand", "Reshape", "Neg"]


def test_cut_on_five_axes_each_piece_is_cut_on_fewer(graph, apply):
    part = graph(
        "(float[1,5,24] x) => (float[1,2,5,4] q, float[1,2,5,4] k, float[1,2,4,5] v) {"
        "f = Neg(x) a = Reshape(f, s) b = Transpose<perm=[2,0,3,1,4]>(a) p, r, t = Split<axis=0, "
        "num_outputs=3>(b) p1 = Squeeze(p, z) r1 = Squeeze(r, z) t1 = Squeeze(t, z) q = Neg(p1)"
        " k = Neg(r1) t2 = Transpose<perm=[0,1,3,2]>(t1) v = Neg(t2) }",
        s=i64(1, 5, 3, 2, 4),
        z=i64(0),
    )
    result = apply(FourAxes(), part, **fed(1, 5, 24))
    made = kinds(result)
    assert rank(result.model.parts["vision"]) == 4
    assert [made.count(op) for op in ("Slice", "Reshape", "Transpose")] == [3, 3, 3]


def test_what_no_single_stride_describes_is_done_in_two_turns(graph, apply):
    """Rows and columns change places, and then twelve rows are cut into threes: two windows."""
    part = graph(
        "(float[1,6,6,8] x) => (float[9,4,8] y) { a = Reshape(x, s)"
        "b = Transpose<perm=[0,2,3,1,4]>(a) c = Reshape(b, t) d = Transpose<perm=[2,0,1,3,4]>(c)"
        " e = Reshape(d, u) y = Neg(e) }",
        s=i64(1, 6, 3, 2, 8), t=i64(3, 3, 4, 8, 1), u=i64(9, 4, 8),
    )  # fmt: skip
    result = apply(FourAxes(), part, **fed(1, 6, 6, 8))
    assert rank(result.model.parts["vision"]) <= 4 and kinds(result).count("Transpose") == 2
    assert [n.kind for n in result.notes] == ["matched"]


def test_outputs_keep_their_names_also_where_nothing_moves(graph, apply):
    part = graph(
        "(float[1,6,8] x) => (float[1,6,8] y, float[6,8] z) { n = Neg(x) a = Reshape(n, s)"
        " b = Transpose<perm=[1,0,2,3,4]>(a) y = Reshape(b, t) z = Reshape(b, u) }",
        s=i64(1, 1, 6, 2, 4), t=i64(1, 6, 8), u=i64(6, 8),
    )  # fmt: skip
    result = apply(FourAxes(), part, **fed(1, 6, 8))
    assert kinds(result) == ["Neg", "Identity", "Reshape"]


def test_roundings_on_the_way_are_kept(graph, apply):
    part = graph(
        "(float[1,16,6] x) => (float[4,4,6] y) { q = QuantizeLinear<output_dtype=3>(x, c)"
        " a = Reshape(q, s) b = Transpose<perm=[0,1,3,2,4,5]>(a) d = DequantizeLinear(b, c)"
        " e = Reshape(d, t) y = Neg(e) }",
        s=i64(1, 2, 2, 2, 2, 6), t=i64(4, 4, 6), c=np.float32(0.03),
    )  # fmt: skip
    result = apply(FourAxes(), part, **fed(1, 16, 6))
    assert rank(result.model.parts["vision"]) == 4


REFUSED = {
    "a port": (
        "(float[1,6,8] x) => (float[1,3,2,2,4] y) { a = Reshape(x, s) y = Neg(a) }",
        {"s": i64(1, 3, 2, 2, 4)},
        {"y": "a port of more than four axes"},
    ),
    "an op": (
        "(float[1,6,8] x) => (float[1,3,2,4,6] y0, float[1] y) { a = Reshape(x, s)"
        " y0 = Pad(a, p) y = ReduceSum<keepdims=0>(x, r) }",
        {"s": i64(1, 3, 2, 2, 4), "p": i64(0, 0, 0, 1, 1, 0, 0, 0, 1, 1), "r": i64(1, 2)},
        {
            "Pad -> y0": "Pad has no form with fewer axes",
            "a": "read with 5 axes by Pad -> y0",
        },
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_sentence(case, graph, apply):
    text, constants, reasons = REFUSED[case]
    result = apply(FourAxes(), graph(text, **constants), **fed(1, 6, 8))
    said = {n.where.removeprefix("vision/"): n.why for n in result.notes if n.kind == "skipped"}
    assert said == reasons


def test_a_graph_of_four_axes_is_not_touched(graph, apply):
    part = graph("(float[1,2,3,4] x) => (float[1,2,4,3] y) { y = Transpose<perm=[0,1,3,2]>(x) }")
    result = apply(FourAxes(), part, **fed(1, 2, 3, 4))
    assert not result.changed and not result.notes
