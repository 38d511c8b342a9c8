"""channels-first on rounded weights and inputs: codes, tables and scales stay what they are."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.palettes import find_palette, write_palette
from edgevlm.compiler.quantised import STORED
from edgevlm.passes.mobile.channels_first import ChannelsFirst

S, K, N = 5, 12, 8
RNG = np.random.default_rng(0)
NEAR = {"rtol": 2e-5, "atol": 2e-5}
X = f"(float[1,{S},{K}] x) => (float[1,{S},{N}] y)"


def x() -> np.ndarray:
    return RNG.normal(size=(1, S, K)).astype(np.float32)


def steps(*shape: int) -> np.ndarray:
    return RNG.uniform(0.01, 0.02, size=shape).astype(np.float32)


def kernel_of(result) -> ir.Node:
    graph = result.model.parts["vision"].graph
    return next(n for n in graph if n.op_type == "Conv").inputs[1].producer()


#: how: (attributes, shape of the scales of [K,N], axis afterwards, shape of them afterwards)
HOW = {
    "a column": ("axis=1", (N,), 0, [N]),
    "a row": ("axis=0", (K,), 1, [K]),
    "one": ("axis=1", (), None, []),
    "blocks": ("axis=0, block_size=4", (K // 4, N), 1, [N, K // 4, 1, 1]),
}


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.int4])
@pytest.mark.parametrize("how", HOW)
def test_codes_stay_codes(graph, apply, dtype, how):
    words, shape, axis, after = HOW[how]
    low = -8 if dtype is ml_dtypes.int4 else -128
    codes = RNG.integers(low, -low, size=(K, N)).astype(dtype)
    part = graph(
        f"{X} {{ w = DequantizeLinear<{words}>(c, s) y = MatMul(x, w) }}", c=codes, s=steps(*shape)
    )
    record = json.dumps({"bits": 8})
    next(n for n in part.graph if n.op_type == "DequantizeLinear").metadata_props[STORED] = record
    maker = kernel_of(apply(ChannelsFirst(), part, **NEAR, x=x()))
    stored, step = maker.inputs[:2]
    assert stored.dtype == ir.DataType.from_numpy(np.dtype(dtype))
    assert np.array_equal(stored.const_value.numpy()[:, :, 0, 0].T, codes)
    assert list(step.shape) == after and maker.metadata_props[STORED] == record
    assert axis is None or maker.attributes.get_int("axis") == axis


@pytest.mark.parametrize("groups", [1, 4])
def test_tables_stay_tables(graph, apply, groups):
    part = graph(f"{X} {{ y = MatMul(x, w) }}", w=np.zeros((K, N), np.float32))
    build = GraphBuilder(part, "tables")
    tables = RNG.normal(size=(groups, 16)).astype(np.float32)
    indices = RNG.integers(0, 16, size=(K, N)).astype(np.uint8)
    product = next(n for n in part.graph if n.op_type == "MatMul")
    product.replace_input_with(1, write_palette(build, indices, tables, 1, ml_dtypes.uint4))
    part.graph.initializers.pop("w")
    build.finish()
    found = find_palette(kernel_of(apply(ChannelsFirst(), part, **NEAR, x=x())))
    assert found.axis == 0 and np.array_equal(found.tables, tables)
    assert found.indices.dtype == ir.DataType.UINT4
    kept = found.indices.const_value.numpy()[:, :, 0, 0].T.astype(np.uint8)
    assert np.array_equal(kept, indices)


def test_rounded_inputs_are_rounded_by_the_same_scale(graph, apply, ops):
    """Bit for bit: the codes and their sums are whole numbers."""
    part = graph(
        f"""{X} {{ a = Relu(x) q = QuantizeLinear<output_dtype=3>(a, s) r = DequantizeLinear(q, s)
        w = DequantizeLinear<axis=1>(c, t) m = MatMul(r, w) e = QuantizeLinear<output_dtype=3>(m, s)
        y = DequantizeLinear(e, s) }}""",
        s=np.float32(2.0**-6),
        c=RNG.integers(-128, 128, size=(K, N)).astype(np.int8),
        t=np.full(N, 2.0**-8, np.float32),
    )
    kinds = ops(apply(ChannelsFirst(), part, x=x()))
    assert kinds.count("QuantizeLinear") == 2 and kinds.count("Transpose") == 2


def test_scales_along_a_computed_axis_are_met_in_the_old_layout(graph, apply, ops):
    part = graph(
        f"""{X} {{ m = MatMul(x, w) q = QuantizeLinear<axis=2, output_dtype=3>(m, s)
        y = DequantizeLinear<axis=2>(q, s) }}""",
        w=RNG.normal(size=(K, N)).astype(np.float32),
        s=steps(N) * 10,
    )
    result = apply(ChannelsFirst(), part, atol=0.2, x=x())
    assert "Conv" in ops(result)
