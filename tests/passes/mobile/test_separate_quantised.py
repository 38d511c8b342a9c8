"""separate-qkv on rounded weights and inputs: codes and scales are cut, and stay what they are."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.quantised import STORED
from edgevlm.passes.mobile.separate_qkv import SeparateQkv

N, D = 5, 12
RNG = np.random.default_rng(1)
OUT = f"(float[1,{N},{D}] q, float[1,{N},{D}] k, float[1,{N},{D}] v)"
USED = "q1, k1, v1 = Split<axis=2, num_outputs=3>(y) q = Sigmoid(q1) k = Neg(k1) v = Abs(v1)"


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def codes(dtype, *shape) -> np.ndarray:
    low = -8 if dtype is ml_dtypes.int4 else -128
    return RNG.integers(low, -low, size=shape).astype(dtype)


def scales(*shape) -> np.ndarray:
    return RNG.uniform(0.01, 0.02, size=shape).astype(np.float32)


def x() -> dict[str, np.ndarray]:
    return {"x": RNG.normal(size=(1, N, D)).astype(np.float32)}


def weights_of(result) -> list[ir.Node]:
    graph = result.model.parts["vision"].graph
    return [n.inputs[1].producer() for n in graph if n.op_type == "MatMul"]


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.int4])
@pytest.mark.parametrize("how", ["a column", "one", "blocks"])
def test_codes_and_their_scales_are_cut_alike(graph, apply, dtype, how):
    words = {"a column": "axis=1", "one": "axis=1", "blocks": "axis=0, block_size=4"}[how]
    step = {"a column": scales(3 * D), "one": scales(), "blocks": scales(D // 4, 3 * D)}[how]
    part = graph(
        f"(float[1,{N},{D}] x) => {OUT} {{ w = DequantizeLinear<{words}>(c, s) y = MatMul(x, w) "
        f"{USED} }}",
        c=codes(dtype, D, 3 * D),
        s=step,
    )
    record = json.dumps({"bits": 8})
    next(n for n in part.graph if n.op_type == "DequantizeLinear").metadata_props[STORED] = record
    result = apply(SeparateQkv(), part, rtol=1e-6, atol=1e-6, **x())
    for node in weights_of(result):
        stored, step = node.inputs[:2]
        assert stored.dtype == ir.DataType.from_numpy(np.dtype(dtype))
        assert list(stored.shape) == [D, D] and node.metadata_props[STORED] == record
        wanted = {"a column": [D], "one": [], "blocks": [D // 4, D]}[how]
        assert list(step.shape) == wanted
    kinds = [n.op_type for n in result.model.parts["vision"].graph]
    assert kinds.count("DequantizeLinear") == kinds.count("MatMul") == 3


def test_zero_points_and_a_rounded_bias(graph, apply):
    part = graph(
        f"(float[1,{N},{D}] x) => {OUT} {{ w = DequantizeLinear<axis=1>(c, s, z) "
        f"b = DequantizeLinear<axis=0>(bc, s) m = MatMul(x, w) y = Add(m, b) {USED} }}",
        c=codes(np.int8, D, 3 * D),
        s=scales(3 * D),
        z=codes(np.int8, 3 * D),
        bc=RNG.integers(-999, 999, size=3 * D).astype(np.int32),
    )
    result = apply(SeparateQkv(), part, rtol=1e-6, atol=1e-6, **x())
    assert all(list(node.inputs[2].shape) == [D] for node in weights_of(result))


def test_an_input_is_rounded_once_and_made_float_for_each_product(graph, apply):
    part = graph(
        f"(float[1,{N},{D}] x) => {OUT} {{ a = QuantizeLinear<output_dtype=3>(x, t) "
        "f = DequantizeLinear(a, t) w = DequantizeLinear<axis=1>(c, s) m = MatMul(f, w) "
        f"y = Add(m, b) {USED} }}",
        c=codes(np.int8, D, 3 * D),
        s=scales(3 * D),
        t=np.float32(0.03),
        b=scales(3 * D),
    )
    result = apply(SeparateQkv(), part, rtol=1e-6, atol=1e-6, **x())
    graph_ = result.model.parts["vision"].graph
    (rounded,) = [n for n in graph_ if n.op_type == "QuantizeLinear"]
    users = {user for user, _ in rounded.outputs[0].uses()}
    assert len(users) == 3
    for user in users:
        assert [n.op_type for n, _ in user.outputs[0].uses()] == ["MatMul"]


def test_roundings_behind_the_product_and_between_moves_are_each_pieces_own(graph, apply):
    """As tools write it that round every value: Q and DQ behind MatMul, Add, Reshape, Transpose."""
    qdq = "{0}q = QuantizeLinear<output_dtype=3>({0}, t) {0}r = DequantizeLinear({0}q, t) "
    part = graph(
        f"(float[1,{N},{D}] x) => (float[1,3,{N},4] q, float[1,3,{N},4] k, float[1,3,{N},4] v) {{"
        "m = MatMul(x, w) " + qdq.format("m") + "y = Add(mr, b) " + qdq.format("y")
        + "r = Reshape(yr, five) " + qdq.format("r")
        + "u = Transpose<perm=[2,0,3,1,4]>(rr) " + qdq.format("u")
        + "q1 = Gather<axis=0>(ur, n0) k1 = Gather<axis=0>(ur, n1) v1 = Gather<axis=0>(ur, n2)"
        "q = Sigmoid(q1) k = Neg(k1) v = Abs(v1) }",
        w=RNG.normal(size=(D, 3 * D)).astype(np.float32),
        b=scales(3 * D),
        t=np.float32(0.05),
        five=i64(1, N, 3, 3, 4),
        **{f"n{i}": np.array(i) for i in range(3)},
    )  # fmt: skip
    result = apply(SeparateQkv(), part, **x())
    kinds = [n.op_type for n in result.model.parts["vision"].graph]
    assert result.changed and kinds.count("MatMul") == 3
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 12
    assert max(len(v.shape) for n in result.model.parts["vision"].graph for v in n.outputs) == 4


def test_two_matrices_whose_products_are_added_are_cut_together(graph, apply):
    """Outliers of dasq as a product of their own: x dense + x sparse + b."""
    part = graph(
        f"(float[1,{N},{D}] x) => {OUT} {{ w = DequantizeLinear<axis=1>(c, s) "
        "o = DequantizeLinear<axis=1>(few, s8) m = MatMul(x, w) p = MatMul(x, o) a = Add(m, p) "
        f"y = Add(a, b) {USED} }}",
        c=codes(ml_dtypes.int4, D, 3 * D),
        few=codes(np.int8, D, 3 * D),
        s=scales(3 * D),
        s8=scales(3 * D),
        b=scales(3 * D),
    )
    result = apply(SeparateQkv(), part, rtol=1e-6, atol=1e-6, **x())
    assert len(weights_of(result)) == 6
