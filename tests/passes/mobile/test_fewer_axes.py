"""Ops on five axes and more as the same ops on four, against ONNX Runtime on what they were."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.mobile.fewer_axes import fewer_axes
from edgevlm.passes.mobile.four_axes import FourAxes

SHAPE = (2, 3, 1, 4, 2)
RNG = np.random.default_rng(0)
FLAT = "float[2,3,8] f"  # what x is made of: a port may not have five axes
WHOLE = "x = Reshape(f, five)"


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CASES = {  # nodes from x to z of five axes or fewer; constants
    "unary": ("z = Sigmoid(x)", {}),
    "clip": ("z = Clip(x, lo, hi)", {"lo": np.float32(-0.5), "hi": np.float32(0.5)}),
    "same shape": ("n = Neg(x) z = Mul(x, n)", {}),
    "a number": ("z = Add(x, c)", {"c": np.float32(2)}),
    "a vector": ("z = Mul(x, c)", {"c": real(2)}),
    "in the middle": ("z = Sub(x, c)", {"c": real(3, 1, 1, 1)}),
    "both stretch": ("m = ReduceMax<keepdims=1>(x, ax) z = Sub(x, m)", {"ax": i64(1, 3)}),
    "where": ("g = Greater(x, c) n = Neg(x) z = Where(g, x, n)", {"c": real(4, 1)}),
    "cast": ("h = Cast<to=10>(x) z = Cast<to=1>(h)", {}),
    "softmax": ("z = Softmax<axis=3>(x)", {}),
    "softmax of the last": ("z = Softmax<axis=-1>(x)", {}),
    "concat": ("n = Neg(x) z = Concat<axis=2>(x, n)", {}),
    "concat of the last": ("z = Concat<axis=-1>(x, c)", {"c": real(2, 3, 1, 4, 1)}),
    "mean": ("z = ReduceMean<keepdims=0>(x, ax)", {"ax": i64(1, -1)}),
    "sum of neighbours": ("z = ReduceSum<keepdims=1>(x, ax)", {"ax": i64(2, 3)}),
    "sum of an axis of one": ("z = ReduceSum<keepdims=1>(x, ax)", {"ax": i64(2)}),
    "max of all": ("z = ReduceMax<keepdims=1>(x)", {}),
    "nothing is summed": ("z = ReduceSum<noop_with_empty_axes=1>(x)", {}),
    "layer norm": ("z = LayerNormalization<axis=-1>(x, g, b)", {"g": real(2), "b": real(2)}),
    "layer norm of two": (
        "z = LayerNormalization<axis=3>(x, g, b)", {"g": real(4, 2), "b": real(4, 2)}
    ),
    "rms norm": ("z = RMSNormalization<axis=-1>(x, g)", {"g": real(2)}),
    "a stored matrix": ("z = MatMul(x, w)", {"w": real(2, 5)}),
    "products side by side": ("t = Transpose<perm=[0,1,2,4,3]>(x) n = Neg(t) z = MatMul(x, n)", {}),
    "products that share one side": ("z = MatMul(w, x)", {"w": real(2, 1, 1, 6, 4)}),
    "arg max": ("i = ArgMax<axis=3, keepdims=1>(x) z = Cast<to=1>(i)", {}),
    "arg min of the first": ("i = ArgMin<axis=0, keepdims=0>(x) z = Cast<to=1>(i)", {}),
    "top k": ("z, i = TopK<axis=3>(x, k)", {"k": i64(3)}),
    "running sum": ("z = CumSum(x, ax)", {"ax": np.array(3)}),
    "uneven places": ("z = Gather<axis=3>(x, p)", {"p": i64(0, 3, 1)}),
    "rounded by one scale": (
        "q = QuantizeLinear<output_dtype=3>(x, s) z = DequantizeLinear(q, s)",
        {"s": np.float32(0.1)},
    ),
    "rounded along an axis": (
        "q = QuantizeLinear<axis=1, output_dtype=3>(x, s) z = DequantizeLinear<axis=1>(q, s)",
        {"s": np.array([0.1, 0.2, 0.3], np.float32)},
    ),
    "rounded along the axis that is meant": (
        "q = QuantizeLinear<output_dtype=3>(x, s) z = DequantizeLinear(q, s)",
        {"s": np.array([0.1, 0.2, 0.3], np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_computes_the_same(case, graph, ort, solo):
    words, constants = CASES[case]
    text = f"({FLAT}) => (float[size] y) {{ {WHOLE} {words} y = Reshape(z, one) }}"
    part = graph(text, five=i64(*SHAPE), one=i64(-1), **constants)
    z = next(v for n in part.graph for v in n.outputs if v.name == "z")
    part.graph.outputs[0].shape = ir.Shape([int(np.prod([int(d) for d in z.shape]))])
    result = FourAxes()(solo(part))
    made = result.model.parts["vision"]
    assert result.changed and not [n for n in result.notes if n.kind == "skipped"]
    values = [v for n in made.graph for v in (*n.inputs, *n.outputs) if v is not None]
    assert max(len(v.shape) for v in values) <= 4
    for seed in range(3):
        f = {"f": np.random.default_rng(seed).normal(size=(2, 3, 8)).astype(np.float32)}
        np.testing.assert_allclose(ort(made, **f)["y"], ort(part, **f)["y"], rtol=1e-6, atol=1e-6)
    assert not FourAxes()(result.model).changed


@settings(max_examples=60)
@given(data=st.data())
def test_operands_that_stretch_anywhere(data, graph, ort, solo):
    """Wherever an operand is 1 or missing; refused only where five runs are left."""
    shape = data.draw(st.lists(st.integers(1, 3), min_size=5, max_size=6))
    other = [size if data.draw(st.booleans()) else 1 for size in shape]
    other = other[data.draw(st.integers(0, len(shape))) :]
    size = int(np.prod(shape))
    part = graph(
        f"(float[{size}] f) => (float[{size}] y) {{ x = Reshape(f, s) z = Mul(x, c) "
        "y = Reshape(z, one) }",
        s=i64(*shape),
        c=real(*other),
        one=i64(-1),
    )
    result = FourAxes()(solo(part))
    f = {"f": real(size)}
    np.testing.assert_array_equal(ort(result.model.parts["vision"], **f)["y"], ort(part, **f)["y"])
    skipped = [n.why for n in result.notes if n.kind == "skipped"]
    assert not skipped or "treats" in skipped[0]


def test_five_runs_that_differ_are_refused(graph):
    part = graph(
        "(float[2,3,2,3,2] x) => (float[2,3,2,3,2] y) { y = Mul(x, c) }", c=real(2, 1, 2, 1, 2)
    )
    assert fewer_axes(next(iter(part.graph))) == "Mul treats 5 axes each in its own way"
    vector = graph("(float[1,2,3,4,5] x) => (float[1,2,3,4] y) { y = MatMul(x, c) }", c=real(5))
    assert fewer_axes(next(iter(vector.graph))) == "MatMul treats 5 axes each in its own way"
    einsum = graph('(float[2,2] x) => (float[2,2] y) { y = Einsum<equation="ij->ji">(x) }')
    assert fewer_axes(next(iter(einsum.graph))) == "Einsum has no form with fewer axes"
