"""separate-qkv: every way a fused projection is divided; what is not divided stays as it is."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.mobile.separate_qkv import SeparateQkv

N, D, H, W = 5, 12, 3, 4  # tokens, channels, heads, width of a head
NEAR = {"rtol": 1e-6, "atol": 1e-6}  # a product of other sizes may add up in another order
RNG = np.random.default_rng(0)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def named(words: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """Of constants those that some words speak of."""
    spoken = set(re.findall(r"\w+", words))
    return {name: array for name, array in arrays.items() if name in spoken}


def weights(columns: int, rows: int = D) -> dict[str, np.ndarray]:
    return {
        "w": RNG.normal(size=(rows, columns)).astype(np.float32),
        "b": RNG.normal(size=columns).astype(np.float32),
    }


def fed(**shapes) -> dict[str, np.ndarray]:
    shapes = shapes or {"x": (1, N, D)}
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


X = f"float[1,{N},{D}] x"
HEADS = f"float[1,{H},{N},{W}]"
OUT = f"({HEADS} q, {HEADS} k, {HEADS} v)"
FIVE = i64(1, N, 3, H, W)
#: how q, k and v come out of y [1,N,3D]: nodes, and constants beside the weights
FORMS = {
    "split of five axes": (
        "r = Reshape(y, five) t = Transpose<perm=[2,0,3,1,4]>(r) a0, a1, a2 = Split<axis=0, "
        "num_outputs=3>(t) q1 = Squeeze(a0, zero) k1 = Squeeze(a1, zero) v1 = Squeeze(a2, zero)",
        {"five": FIVE, "zero": i64(0)},
    ),
    "gather": (
        "r = Reshape(y, five) t = Transpose<perm=[2,0,3,1,4]>(r) q1 = Gather<axis=0>(t, n0) "
        "k1 = Gather<axis=0>(t, n1) v1 = Gather<axis=0>(t, n2)",
        {"five": FIVE, "n0": np.array(0), "n1": np.array(1), "n2": np.array(-1)},
    ),
    "slice and squeeze": (
        "r = Reshape(y, five) t = Transpose<perm=[2,0,3,1,4]>(r) a0 = Slice(t, z, o, z) "
        "q1 = Squeeze(a0, z) a1 = Slice(t, o, p, z) k1 = Squeeze(a1, z) "
        "a2 = Slice(t, last, big, z, o) v1 = Squeeze(a2, z)",
        {"five": FIVE, "z": i64(0), "o": i64(1), "p": i64(2), "last": i64(-1), "big": i64(2**62)},
    ),
    "split of channels": (
        "a0, a1, a2 = Split<axis=-1>(y, parts) r0 = Reshape(a0, heads) r1 = Reshape(a1, heads) "
        "r2 = Reshape(a2, heads) q1 = Transpose<perm=[0,2,1,3]>(r0) "
        "k1 = Transpose<perm=[0,2,1,3]>(r1) v1 = Transpose<perm=[0,2,1,3]>(r2)",
        {"parts": i64(D, D, D), "heads": i64(1, N, H, W)},
    ),
    "a head's q, k and v side by side": (
        "r = Reshape(y, wide) t = Transpose<perm=[0,2,1,3]>(r) q1, k1, v1 = Split<axis=3, "
        "num_outputs=3>(t)",
        {"wide": i64(1, N, H, 3 * W)},
    ),
    "turned before it is cut": (
        "r = Reshape(y, five) t = Transpose<perm=[0,3,1,2,4]>(r) q1 = Gather<axis=3>(t, n0) "
        "k1 = Gather<axis=3>(t, n1) v1 = Gather<axis=3>(t, n2)",
        {"five": FIVE, "n0": np.array(0), "n1": np.array(1), "n2": np.array(2)},
    ),
}
USED = "q = Sigmoid(q1) k = Neg(k1) v = Abs(v1)"


def ranks(result) -> int:
    return max(len(v.shape) for n in result.model.parts["vision"].graph for v in n.outputs)


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_divide_is_a_product_each(graph, apply, ops, form):
    words, constants = FORMS[form]
    part = graph(
        f"({X}) => {OUT} {{ m = MatMul(x, w) y = Add(m, b) {words} {USED} }}",
        **weights(3 * D),
        **constants,
    )
    result = apply(SeparateQkv(), part, **NEAR, **fed())
    kinds = ops(result)
    assert [kinds.count(op) for op in ("MatMul", "Add", "Reshape", "Transpose")] == [3, 3, 3, 3]
    assert len(kinds) == 15 and ranks(result) == 4
    assert [n.why for n in result.notes] == [f"{3 * D} columns became products of {D}, {D}, {D}"]
    stored = result.model.parts["vision"].graph.initializers.values()
    assert not any(3 * D in v.shape for v in stored)


def test_a_weight_is_cut_into_its_own_columns(graph, solo):
    words, constants = FORMS["a head's q, k and v side by side"]
    given = weights(3 * D)
    part = graph(f"({X}) => {OUT} {{ y = MatMul(x, w) {words} {USED} }}", w=given["w"], **constants)
    made = SeparateQkv()(solo(part)).model.parts["vision"].graph
    columns = np.arange(3 * D).reshape(H, 3, W)
    found = [n.inputs[1].const_value.numpy() for n in made if n.op_type == "MatMul"]
    for array, wanted in zip(found, columns.transpose(1, 0, 2).reshape(3, -1), strict=True):
        assert np.array_equal(array, given["w"][:, wanted])


@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_with_its_bias(graph, apply, ops, turned):
    given = weights(3 * D)
    if turned:
        given["w"] = np.ascontiguousarray(given["w"].T)
    out = f"float[{N},{D}]"
    part = graph(
        f"(float[{N},{D}] x) => ({out} q, {out} k, {out} v) {{ y = Gemm<transB={turned}, alpha=0.5,"
        f" beta=2.0>(x, w, b) q1, k1, v1 = Split<axis=1, num_outputs=3>(y) {USED} }}",
        **given,
    )
    result = apply(SeparateQkv(), part, **NEAR, **fed(x=(N, D)))
    assert sorted(ops(result)) == ["Abs", "Gemm", "Gemm", "Gemm", "Neg", "Sigmoid"]


def test_heads_that_share_keys(graph, apply, ops):
    """q has 4 heads, k and v 2 each, which are then repeated: [1,2,N,4] -> [1,4,N,4]."""
    part = graph(
        f"({X}) => (float[1,4,{N},4] q, float[1,4,{N},4] k, float[1,4,{N},4] v) {{"
        "y = MatMul(x, w) a0, a1, a2 = Split<axis=2>(y, parts) r0 = Reshape(a0, qs)"
        "r1 = Reshape(a1, ks) r2 = Reshape(a2, ks) q1 = Transpose<perm=[0,2,1,3]>(r0)"
        "t1 = Transpose<perm=[0,2,1,3]>(r1) t2 = Transpose<perm=[0,2,1,3]>(r2)"
        "u1 = Unsqueeze(t1, two) u2 = Unsqueeze(t2, two) e1 = Expand(u1, wide)"
        f"e2 = Expand(u2, wide) k1 = Reshape(e1, whole) v1 = Reshape(e2, whole) {USED} }}",
        w=weights(32)["w"],
        parts=i64(16, 8, 8),
        qs=i64(1, N, 4, 4),
        ks=i64(1, N, 2, 4),
        two=i64(2),
        wide=i64(1, 2, 2, N, 4),
        whole=i64(1, 4, N, 4),
    )
    result = apply(SeparateQkv(), part, **NEAR, **fed())
    assert result.notes[0].why == "32 columns became products of 16, 8, 8"
    assert ops(result).count("Expand") == 2 and ranks(result) == 4


def test_gate_and_up_of_an_mlp_and_a_key_that_is_read_twice(graph, apply, ops):
    part = graph(
        f"({X}) => (float[1,{N},{D}] o, float[1,{D},{N}] t) {{ y = MatMul(x, w)"
        "g, u = Split<axis=2, num_outputs=2>(y) s = Sigmoid(g) o = Mul(s, u)"
        "i = Identity(u) t1 = Transpose<perm=[0,2,1]>(i) t = Neg(t1) }",
        w=weights(2 * D)["w"],
    )
    result = apply(SeparateQkv(), part, **NEAR, **fed())
    assert ops(result).count("MatMul") == 2 and ops(result).count("Transpose") == 1


def test_pieces_that_are_outputs_keep_their_names(graph, apply):
    part = graph(
        f"({X}) => (float[1,{N},{D}] q, float[1,{N},{D}] k, float[1,{N},{D}] same) {{"
        "y = MatMul(x, w) q, k = Split<axis=2, num_outputs=2>(y) same = Identity(k) }",
        w=weights(2 * D)["w"],
    )
    result = apply(SeparateQkv(), part, **NEAR, **fed())
    outputs = result.model.parts["vision"].graph.outputs
    assert [v.name for v in outputs] == ["q", "k", "same"]


REFUSED = {
    "whole": (
        "y = MatMul(x, w) a, z = Split<axis=2, num_outputs=2>(y) q = Neg(a) k = Abs(y)",
        f"(float[1,{N},{D}] q, float[1,{N},{2 * D}] k)",
        "y has all of its columns, and others are divided from them",
    ),
    "overlap": (
        "y = MatMul(x, w) a = Slice(y, n0, n8, n2) c = Slice(y, n4, n12, n2) q = Neg(a) k = Abs(c)",
        f"(float[1,{N},8] q, float[1,{N},8] k)",
        "two readers have some of its columns in common, and others not",
    ),
    "computed": (
        "wc = Neg(x2) y = MatMul(x, wc) a, c = Split<axis=2, num_outputs=2>(y) q = Neg(a) "
        "k = Abs(c)",
        f"(float[1,{N},{D}] q, float[1,{N},{D}] k)",
        "its columns are divided, but what it multiplies with is computed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_sentence(graph, apply, case):
    words, outputs, why = REFUSED[case]
    part = graph(
        f"({X}, float[{D},{2 * D}] x2) => {outputs} {{ {words} }}",
        **named(words, **weights(2 * D), **{f"n{i}": i64(i) for i in (0, 2, 4, 8, 12)}),
    )
    result = apply(SeparateQkv(), part, **fed(x=(1, N, D), x2=(D, 2 * D)))
    assert not result.changed
    assert [(n.kind, n.why) for n in result.notes] == [("skipped", why)]


QUIET = {  # nothing is divided, so there is nothing to say
    "rows": "y = MatMul(x, w) r = Gather<axis=1>(y, n0) q = Neg(r)",
    "ordinary": "y = MatMul(x, w) z = Add(y, b) q1 = Reshape(z, back) q = Neg(q1)",
    "uneven places": "y = MatMul(x, w) r = Gather<axis=2>(y, odd) q = Neg(r)",
}


@pytest.mark.parametrize("case", QUIET)
def test_an_ordinary_product_is_left_alone(graph, apply, case):
    shape = {"rows": "1,24", "ordinary": f"1,{N},24", "uneven places": f"1,{N},3"}[case]
    part = graph(
        f"({X}) => (float[{shape}] q) {{ {QUIET[case]} }}",
        **named(
            QUIET[case], **weights(2 * D), n0=np.array(0), back=i64(1, N, 24), odd=i64(0, 1, 7)
        ),
    )
    result = apply(SeparateQkv(), part, **fed())
    assert not result.changed and not result.notes


@settings(max_examples=40)
@given(
    heads=st.integers(1, 4),
    width=st.integers(1, 4),
    tokens=st.integers(1, 4),
    order=st.permutations(range(3)),
    last=st.permutations(range(3)),
)
def test_any_sizes_and_orders(heads, width, tokens, order, last, graph, apply):
    """[1,N,...] of (3, H, W) in any order, cut along the 3, then turned any way."""
    sizes = [3, heads, width]
    wide = [sizes[i] for i in order]
    cut = 2 + order.index(0)
    rest = [wide[i] for i in range(3) if i != cut - 2]
    shape = [[1, tokens, *rest][i + 1] for i in last]
    part = graph(
        f"(float[1,{tokens},6] x) => (float[1,{','.join(map(str, shape))}] q, "
        f"float[1,{','.join(map(str, shape))}] v) {{ m = MatMul(x, w) y = Add(m, b)"
        f"r = Reshape(y, five) q1 = Gather<axis={cut}>(r, n0) v1 = Gather<axis={cut}>(r, n2)"
        f"q2 = Transpose<perm=[0,{','.join(str(i + 1) for i in last)}]>(q1)"
        f"v2 = Transpose<perm=[0,{','.join(str(i + 1) for i in last)}]>(v1)"
        "q = Neg(q2) v = Abs(v2) }",
        **weights(3 * heads * width, 6),
        five=i64(1, tokens, *wide),
        n0=np.array(0),
        n2=np.array(2),
    )
    result = apply(SeparateQkv(), part, **NEAR, **fed(x=(1, tokens, 6)))
    assert result.changed and ranks(result) <= 4
    columns = [n.outputs[0].shape[-1] for n in result.model.parts["vision"].graph
               if n.op_type == "MatMul"]  # fmt: skip
    assert columns == [heads * width] * 2
