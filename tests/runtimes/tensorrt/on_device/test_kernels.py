"""What becomes of every scheme in a real builder, and what other layers are taken for."""

from __future__ import annotations

import json

import pytest

from edgevlm.runtimes.tensorrt.on_device.kernels import kind_of, product_type, summary
from edgevlm.runtimes.tensorrt.on_device.products import Products

SCHEMES = {
    # scheme: of six products with weights, attention apart
    None: {"fp16_gemm": 6, "mha": 1, "gemm_layers": 4},
    "int8": {"int8_gemm": 6, "mha": 1, "fp16_gemm": 0},
    "int8-wrong-axis": {"int8_gemm": 0, "fp16_gemm": 6, "int8_weights": 6},
    "w8": {"int8_gemm": 0, "fp16_gemm": 6, "unpacked": 1},
    "int4": {"int4_gemm": 5, "fp16_gemm": 6, "unpacked": 1, "mha": 1},
    "fp8": {"fp8_gemm": 6, "fp16_gemm": 0, "mha": 1},
}


def counts(built):
    assert built.ok, built.refusals
    return summary(built.rows, built.products)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_told_from_its_kernels(scheme, built):
    if scheme == "fp8":
        pytest.importorskip("ml_dtypes")
    told = counts(built(scheme))
    assert {key: told[key] for key in SCHEMES[scheme]} == SCHEMES[scheme]
    assert told["gemm"] == 6 and told["unseen"] == told["opaque"] == told["fp32_gemm"] == 0


@pytest.mark.parametrize("scheme", [None, "int8", "w8", "int4"])
def test_the_products_of_a_decode_step_are_all_found(scheme, built):
    """A product of one row is an elementwise kernel, which is found by the node that it names."""
    told = counts(built(scheme, tokens=1, cache=127))
    key = {None: "fp16_gemm", "int8": "int8_gemm", "w8": "int8_weights", "int4": "int4_gemm"}[
        scheme
    ]
    assert told[key] == told["gemm"] == 6 and told["mha"] == 1


def test_attention_of_fp32_is_not_fused(built):
    told = counts(built(float_type="fp32"))
    assert told["mha"] == 0 and told["fp32_gemm"] == told["gemm"] == 8


def test_attention_tells_what_it_reads_and_writes(built):
    assert counts(built())["mha_io"] == {"Half,Half,Half -> Half": 1}
    assert counts(built("int8"))["mha_io"] == {"Half,Half,Half -> Int8": 1}


def test_without_the_network_layers_are_counted(built):
    """An engine that was kept: three projections in one layer are one product then."""
    one = built("int8")
    told = summary(one.rows)
    assert told["int8_gemm"] == told["gemm_layers"] == 4 and told["unseen"] == 0


def row(name, kind="", inputs=(), consts=(), outputs=(), tactic="", onnx=()):
    told = {"inputs": inputs, "consts": consts, "outputs": outputs}
    lists = {key: list(value) for key, value in told.items()}
    return {"name": name, "type": kind, "tactic": tactic, "onnx": list(onnx), **lists}


KINDS = [
    ("mha", row("/attn/MHA_v2", "kgen")),
    ("mha", row("/attn", "MHA")),
    ("gemm", row("/mha/out/MatMul", "gemm")),
    ("other", row("PWN(/mha/Gemm_act)", "PointWiseV2", ["Half[4,4]"])),
    ("opaque", row("{ForeignNode[/mha/q.../mha/out]}", "Myelin")),
    ("mha", row("a", "Fused", tactic="sm80_fmha_flash_64")),
    ("opaque", row("{ForeignNode[/a...b]}", "Myelin")),
    ("opaque", row("only a name")),
    ("conv", row("/pe/Conv", "CaskConvolution")),
    ("gemm", row("/fc/MatMul", "MatrixMultiply", tactic="ampere_h16816gemm")),
    ("gemm", row("/fc", "CaskGemmMatrixMultiply")),
    ("other", row("__myl_ExpSum_myl0_1", "kgen", ["Half[1,4]", "Half[4,4]"])),
    ("other", row("__myl_MulSum_myl0_1", "kgen", ["Half[1,4]", "Half[1]"])),  # a sum of squares
    ("gemm", row("__myl_MulSum_myl0_1", "kgen", ["Half[1,4]", "Half[4,4]"])),
    ("unpack", row("__myl_Cast_myl0_1", "kgen", [], ["Int4[4,4]"], ["Half[4,4]"])),
]


@pytest.mark.parametrize("kind, one", KINDS, ids=[f"{k}-{r['name']}" for k, r in KINDS])
def test_a_layer_is_taken_for(kind, one):
    assert kind_of(one, Products()) == kind


TYPES = [
    ("int8", row("a", "gemm", ["Int8[4,4]"], ["Int8[4,4]", "Float[1]"], ["Half[4,4]"])),
    ("int8", row("a", "gemm", ["Int8[4,4]"], [], ["Int8[4,4]"])),  # constants are not listed
    ("fp16", row("a", "gemm", ["Int8[4,4]", "Half[4,8]"], [], ["Half[4,8]"])),
    ("fp16", row("__myl_CastFc_myl0_1", "", ["Int8[4,4]"], ["Int8[4,4]"], ["Half[4,4]"])),
    ("fp32", row("__myl_FcMulCast_myl0_1", "", ["Float[4,4]"], ["Float[4,4]"], ["FP8[4,4]"])),
    ("?", row("a", "gemm")),
]


@pytest.mark.parametrize("kind, one", TYPES)
def test_a_product_is_of_the_type_that_it_multiplies_in(kind, one):
    assert product_type(one) == kind


def test_a_product_that_no_layer_names_is_unseen():
    rows = [row("a", "gemm", ["Half[4,4]"], onnx=["one"])]
    assert summary(rows, Products({"one", "two"}, set()))["unseen"] == 1


def test_an_unknown_kernel_that_alone_names_a_product_holds_it():
    rows = [row("__myl_Strange_myl0_1", "kgen", ["Half[1,4]"], ["Half[4,4]"], onnx=["one"])]
    assert summary(rows, Products({"one"}, set()))["fp16_gemm"] == 1


def test_a_summary_is_json(built):
    assert json.loads(json.dumps(counts(built()))) == counts(built())
