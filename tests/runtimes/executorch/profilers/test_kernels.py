"""Names of XNNPACK's kernels as kinds of arithmetic: recorded ones, and all that XNNPACK has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.runtimes.executorch.kernels import dtype_class, kernel_counts, split_kernel


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("Fully Connected (NC, F32) GEMM #1", "fp32"),
        ("Fully Connected (NC, PF32)", "fp32"),
        ("Fully Connected (NC, F16) GEMM #1", "fp16"),
        ("Fully Connected (NC, QS8, QC8W) GEMM #12", "int8-static"),
        ("Fully Connected (NC, QU8)", "int8-static"),
        ("Convolution (NHWC, QC8)", "int8-static"),
        ("Fully Connected (NC, QDU8, F32, QC8W) GEMM #1", "int8-dynamic"),
        ("Fully Connected (NC, QD8, F16, QC8W)", "int8-dynamic"),
        ("Fully Connected (NC, QP8, F32, QC8W)", "int8-dynamic"),
        ("Batch Matrix Multiply (NC, QD8, F32, QC8W)", "int8-dynamic"),
        ("Fully Connected (NC, QDU8, F32, QB4W) GEMM #3", "int4-block"),
        ("Fully Connected (NC, QP8, F32, QB4W)", "int4-block"),
        ("Fully Connected (NC, QD8, F32, QC4W)", "int4-channel"),
        ("Fully Connected (NC, F32, QC4W)", "int4-weights"),
        ("Fully Connected (NC, F32, QC8W)", "int8-weights"),
        ("Softmax (NC, F32) #1", "fp32"),
        ("Softmax (NC, QU8)", "int8-static"),
        ("Transpose (ND, X8) #1", None),
        ("Convert (NC, F32, QD8)", "fp32"),
        ("Multiply (ND) #1", None),
        ("GELU (NC) #1", None),
        ("Invalid Unary Op #1", None),
        ("DELEGATE_CALL", None),
        ("native_layer_norm.out", None),
        ("", None),
    ],
)
def test_classes(event, expected):
    assert dtype_class(event) == expected


def test_a_name_in_its_parts():
    assert split_kernel("Fully Connected (NC, QDU8, F32, QB4W) GEMM #3") == (
        "Fully Connected",
        ("QDU8", "F32", "QB4W"),
        "GEMM",
    )
    assert split_kernel("Static Reshape (NC) #2") == ("Static Reshape", (), "")
    assert split_kernel("q::ConvLayer(a(b))") == ("q::ConvLayer(a(b))", (), "")


@given(st.text(max_size=60))
def test_any_name_is_split(event):
    assert split_kernel(event).kind is not None and dtype_class(event) in (None, "fp32")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("fp32", {"fp32": 8}),
        ("int8-static", {"int8-static": 6, "fp32": 2}),
        ("int8-dynamic", {"int8-dynamic": 6, "fp32": 2}),
        ("int4-block", {"int4-block": 6, "fp32": 2}),
        ("portable", {}),
    ],
)
def test_recorded_counts(profile_of, kind, expected):
    """Six linears as asked, two products of attention in float; each once for its three runs."""
    assert kernel_counts(profile_of(kind).methods[0].rows) == expected
