"""Cases of ops that sum: reductions, normalisations, products, attention; and of rounding."""

from __future__ import annotations

import numpy as np
from to_torch_case_forms import F, Rows, i64, ints, normal, one, quantised, reduction

__all__ = ["CASES"]

QKV = "float[1,4,5,6] q, float[1,2,7,6] k, float[1,2,7,3] v"
ANGLES = "float[2,4,3] c, float[2,4,3] s"
TABLES = {"c": normal(9, 3), "s": normal(9, 3, seed=8)}

CASES: dict[str, Rows] = {
    # reduce
    **{op: reduction(op) for op in (
        "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceSumSquare")},
    "ReduceLogSum": reduction("ReduceLogSum", "positive"),
    "ReduceSum": reduction("ReduceSum")
    + [(f"{kind}[2,3,4] x", "y = ReduceSum(x, axes)", {"axes": ints(1)})
       for kind in ("int32", "int64")],
    "ReduceProd": [
        *reduction("ReduceProd"), ("int32[2,3,4] x", "y = ReduceProd(x, axes)", {"axes": ints(1)})],
    "CumSum": [("float[3,4] x", f"y = CumSum<reverse = {r}, exclusive = {e}>(x, a)",
                {"a": i64(axis)})
               for r in (0, 1) for e in (0, 1) for axis in (0, -1)]
    + [("int64[5] x", "y = CumSum(x, a)", {"a": i64(0)})],
    **{op: one(op, "float[2,3,4]") + one(op, "float[2,3,4]", "<axis = 1>") for op in (
        "Softmax", "LogSoftmax")},
    "LayerNormalization": [
        ("float[2,3,4] x", "y = LayerNormalization(x, g, b)",
         {"g": normal(4), "b": normal(4, seed=2)}),
        ("float[2,3,4] x", "y = LayerNormalization<epsilon = 0.1, axis = 1>(x, g, b)",
         {"g": normal(3, 4), "b": normal(3, 4, seed=2)}),
        ("float[2,3,4] x", "y = LayerNormalization<axis = 1>(x, g)", {"g": normal(3, 4)}),
        ("float[2,3,4] x", "y = LayerNormalization<axis = 1>(x, g, b)",
         {"g": normal(4), "b": normal(4)})],
    "RMSNormalization": [
        ("float[2,3,4] x", "y = RMSNormalization(x, g)", {"g": normal(4)}),
        ("float[2,3,4] x", "y = RMSNormalization<axis = -2, epsilon = 0.1>(x, g)",
         {"g": normal(3, 4)})],
    # product
    "MatMul": [("float[2,3,4] a", "y = MatMul(a, w)", {"w": normal(4, 5)}),
               ("float[2,1,3,4] a, float[5,4,2] b", "y = MatMul(a, b)", {}),
               ("float[4] a, float[5,4,2] b", "y = MatMul(a, b)", {})],
    "Gemm": [("float[3,4] a", "y = Gemm(a, w, c)", {"w": normal(4, 5), "c": normal(5)}),
             ("float[4,3] a", "y = Gemm<transA = 1, transB = 1, alpha = -1.0, beta = 0.5>(a, w, c)",
              {"w": normal(5, 4), "c": normal(3, 1)}),
             ("float[3,4] a", "y = Gemm<alpha = 2.0>(a, w)", {"w": normal(4, 5)})],
    "Einsum": [("float[2,3,4] a, float[2,5,4] b",
                'y = Einsum<equation = "bik, bjk -> bij">(a, b)', {}),
               ("float[2,3,3] a", 'y = Einsum<equation = "...ii->...i">(a)', {})],
    "Conv": [("float[1,3,8,9] x", "y = Conv<strides = [2, 3]>(x, w, b)",
              {"w": normal(4, 3, 2, 3), "b": normal(4)}),
             ("float[1,4,8,8] x", "y = Conv<pads = [1, 0, 2, 1], group = 2, dilations = [2,"
              " 1]>(x, w)",
              {"w": normal(6, 2, 3, 3)}),
             ("float[2,3,8] x", 'y = Conv<pads = [1, 1], auto_pad = "NOTSET">(x, w)',
              {"w": normal(4, 3, 3)}),
             ("float[1,2,4,4,4] x", 'y = Conv<auto_pad = "VALID", strides = [2, 2, 2]>(x, w)',
              {"w": normal(4, 2, 2, 2, 2)})],
    "ConvTranspose": [("float[1,2,4,4] x", "y = ConvTranspose<strides = [4, 4]>(x, w)",
                       {"w": normal(2, 3, 4, 4)}),
                      ("float[1,4,5] x", "y = ConvTranspose<strides = [2], pads = [1, 1],"
                       " output_padding = [1], group = 2>(x, w, b)",
                       {"w": normal(4, 3, 3), "b": normal(6)})],
    # attention
    "Attention": [
        (QKV, "y = Attention(q, k, v)", {}),
        (QKV, "y = Attention<scale = 0.3, is_causal = 1>(q, k, v)", {}),
        (QKV + ", bool[5,7] m", "y = Attention(q, k, v, m)", {}),
        (QKV + ", bool[1,1,5,7] m", "y = Attention<is_causal = 1>(q, k, v, m)", {}),
        (QKV + ", float[4,5,7] m", "y = Attention(q, k, v, m)", {}),
        (QKV, "y = Attention<is_causal = 1>(q, k, v, m)", {"m": normal(5, 7)}),
        (QKV, "y = Attention(q, k, v, m)", {"m": np.repeat([[0], [-np.inf]], [2, 3], 0).astype(F)
                                            + np.zeros((5, 7), F)}),
        (QKV, "y = Attention(q, k, v, m)", {"m": np.arange(35).reshape(5, 7) % 9 > 6}),
        ("float[2,5,12] q, float[2,7,6] k, float[2,7,4] v",
         "y = Attention<q_num_heads = 4, kv_num_heads = 2>(q, k, v)", {})],
    "RotaryEmbedding": [
        ("float[2,3,4,6] x, " + ANGLES, "y = RotaryEmbedding(x, c, s)", {}),
        ("float[2,3,4,6] x, " + ANGLES, "y = RotaryEmbedding<interleaved = 1>(x, c, s)", {}),
        ("float[2,4,18] x, " + ANGLES, "y = RotaryEmbedding<num_heads = 3>(x, c, s)", {}),
        ("float[2,4,18] x, " + ANGLES, "y = RotaryEmbedding<num_heads = 3, interleaved = 1>(x, c,"
         " s)", {}),
        ("float[2,3,4,6] x, int64[2,4] count", "y = RotaryEmbedding(x, c, s, count)",
         TABLES),
        ("float[2,3,4,10] x, int64[2,4] count",
         "y = RotaryEmbedding<rotary_embedding_dim = 6>(x, c, s, count)", TABLES),
        ("float[2,4,30] x, int64[2,4] count",
         "y = RotaryEmbedding<rotary_embedding_dim = 6, num_heads = 3, interleaved = 1>(x, c, s,"
          " count)",
         TABLES)],
    # quantised
    "QuantizeLinear": [
        ("float[2,3] x", "y = QuantizeLinear(x, s)", {"s": F(0.03)}),
        ("float[2,3] x", "y = QuantizeLinear(x, s, z)", {"s": F(0.01), "z": np.int8(5)}),
        ("float[2,3,4] x", "y = QuantizeLinear<output_dtype = 3>(x, s)",
         {"s": np.array([0.1, 0.2, 0.01], F)}),
        ("float[2,3] x", "y = QuantizeLinear<axis = 0, output_dtype = 3>(x, s)",
         {"s": np.array([0.1, 0.01], F)}),
        ("float[4,3] x", "y = QuantizeLinear<axis = 0, block_size = 2, output_dtype = 3>(x, s)",
         {"s": np.abs(normal(2, 3)) / 50})],
    "DequantizeLinear": [
        ("int64[2,3] x", "b = Cast<to = 3>(x); y = DequantizeLinear(b, s)", {"s": F(0.03)}),
        ("uint8[2,3] byte", "y = DequantizeLinear(byte, s, z)", {"s": F(0.1), "z": np.uint8(200)}),
        ("float[3,4] x", "d = DequantizeLinear(q, s); y = MatMul(x, d)",
         {"q": quantised((4, 2)), "s": np.array([0.1, 0.2], F)}),
        ("float[3,4] x", "d = DequantizeLinear<axis = 0>(q, s, z); y = MatMul(x, d)",
         {"q": quantised((4, 2)), "s": np.abs(normal(4)), "z": np.array([1, -2, 0, 5], np.int8)}),
        ("float[3,4] x", "d = DequantizeLinear<axis = 0, block_size = 2>(q, s); y = MatMul(x, d)",
         {"q": quantised((4, 2)), "s": np.abs(normal(2, 2))})],
    "DynamicQuantizeLinear": [("float[4,5] x", "y, z, w = DynamicQuantizeLinear(x)", {}),
                              ("float[4,5] positive", "y, z, w = DynamicQuantizeLinear(positive)",
                               {})],
}  # fmt: skip
