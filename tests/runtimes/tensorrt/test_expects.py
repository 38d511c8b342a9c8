"""Kernels that a part must become, counted by hand on small graphs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgevlm.runtimes.tensorrt.expects import expected_kernels

NUMBERS = {"int8": (3, np.int8), "fp8": (17, ml_dtypes.float8_e4m3fn)}


def counts(int8=0, fp8=0, mha=0, fp32=0):
    return {"int8_gemm": int8, "fp8_gemm": fp8, "mha": mha, "fp32_gemm": fp32}


def linear(graph, kind="float16", codes="int8", weights=None, product="MatMul(b, w)"):
    number = NUMBERS[codes][0]
    scale = np.float32 if kind == "float" else np.float16
    made = np.ones((8, 8), np.float32).astype(NUMBERS[weights or codes][1])
    return graph(
        f"""({kind}[2,8] x) => ({kind}[2,8] y) {{
        a = QuantizeLinear<output_dtype = {number}>(x, s) b = DequantizeLinear(a, s)
        w = DequantizeLinear(c, s) y = {product} }}""",
        c=made, s=scale(0.5),
    )  # fmt: skip


@pytest.mark.parametrize("product", ["MatMul(b, w)", "Gemm(b, w)"])
def test_products_of_codes_by_their_type(graph, product):
    assert expected_kernels(linear(graph, product=product)) == counts(int8=1)
    assert expected_kernels(linear(graph, codes="fp8", product=product)) == counts(fp8=1)
    assert expected_kernels(linear(graph, "float", product=product)) == counts(int8=1, fp32=1)


def test_products_of_two_types_or_of_float_numbers_are_not_expected(graph):
    assert expected_kernels(linear(graph, codes="int8", weights="fp8")) == counts()
    assert expected_kernels(linear(graph, product="MatMul(x, w)")) == counts()


ATTENTION = """({kind}[1,2,4,8] q, {kind}[1,2,8,4] k, {kind}[1,2,4,8] v) =>
    ({kind}[1,2,4,8] y{more}) {{ s = MatMul(q, k) p = Softmax(s) {between} y = MatMul({p}, v) }}"""


def attention(graph, kind="float16", between="", p="p", more="", **arrays):
    return graph(ATTENTION.format(kind=kind, between=between, p=p, more=more), **arrays)


def test_attention_is_a_softmax_of_half_precision_and_a_product(graph):
    assert expected_kernels(attention(graph)) == counts(mha=1)
    assert expected_kernels(attention(graph, "float")) == counts(fp32=2)


def test_probabilities_may_be_rounded_on_the_way(graph):
    between = "c = QuantizeLinear<output_dtype = 3>(p, z) d = DequantizeLinear(c, z)"
    part = attention(graph, between=between, p="d", z=np.float16(0.01))
    assert expected_kernels(part) == counts(mha=1)


@pytest.mark.parametrize(
    "words",
    [
        {"more": ", float16[1,2,4,4] z", "between": "z = Neg(p)"},  # somebody else reads them
        {"between": "n = Neg(p)", "p": "n"},
    ],
)
def test_what_no_kernel_joins_is_not_expected(graph, words):
    assert expected_kernels(attention(graph, **words)) == counts()


def test_a_softmax_at_the_end_of_a_classifier_is_none(graph):
    part = graph("(float16[1,8] x) => (float16[1,8] y) { y = Softmax(x) }")
    assert expected_kernels(part) == counts()
