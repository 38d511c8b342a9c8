"""Expected kernels against those found, and when nothing can be said."""

from __future__ import annotations

import pytest

from edgevlm.runtimes.tensorrt.on_device.expect import compare_kernels
from edgevlm.runtimes.tensorrt.on_device.kernels import summary

SEEN = {"layers": 9, "int8_gemm": 4, "fp32_gemm": 0, "mha": 1}


@pytest.mark.parametrize(
    "expects, verdict",
    [
        ({"int8_gemm": 4}, True),
        ({"int8_gemm": 5}, False),
        ({"fp32_gemm": 0}, True),
        ({"fp8_gemm": 1}, False),
    ],
)
def test_least_and_most(expects, verdict):
    assert [v.ok for v in compare_kernels(SEEN, expects)] == [verdict]


@pytest.mark.parametrize("hidden", [{"opaque": 1}, {"unseen": 2}, {"layers": 0}])
def test_what_is_hidden_may_hold_what_is_missing(hidden):
    told = compare_kernels({**SEEN, **hidden}, {"int8_gemm": 5, "mha": 1, "fp32_gemm": 0})
    assert [v.ok for v in told] == [None, True, None]


def test_too_many_are_too_many_even_where_layers_are_hidden():
    [told] = compare_kernels({**SEEN, "fp32_gemm": 2, "opaque": 1}, {"fp32_gemm": 0})
    assert told.ok is False


def test_a_lost_integer_path_is_caught_in_a_real_engine(built):
    expects = {"int8_gemm": 6, "mha": 1, "fp32_gemm": 0}
    right, wrong = (
        compare_kernels(summary(b.rows, b.products), expects)
        for b in (built("int8"), built("int8-wrong-axis"))
    )
    assert [v.ok for v in right] == [True, True, True]
    assert [v.ok for v in wrong] == [False, True, True]
    assert str(wrong[0]) == "int8_gemm: at least 6 wanted, 0 found"


@pytest.mark.parametrize(
    "found, expects, verdict",
    [
        (1, {"int8_gemm": 3}, None),  # three projections may be one layer
        (0, {"int8_gemm": 3}, False),  # of none, none was made
        (3, {"int8_gemm": 3}, True),
        (0, {"fp32_gemm": 0}, True),
        (2, {"fp32_gemm": 4}, None),
        (2, {"fp32_gemm": 1}, False),
        (0, {"mha": 1}, False),  # a layer each, always
    ],
)
def test_of_products_without_names_only_layers_are_counted(found, expects, verdict):
    told = {"layers": 9, next(iter(expects)): found}
    assert [v.ok for v in compare_kernels(told, expects, named=False)] == [verdict]
