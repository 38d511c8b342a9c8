"""Int8 products run as int8: counted in the graph that the plugin executes, part by part."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.quantised import is_rounded, weights_of
from edgevlm.compiler.weights import load_graph
from edgevlm.runtimes.openvino.kernels import kernel_types, products
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part

ROLES = ("vision", "connector", "prefill", "decode")


def counted(bundle, role):
    """(kernels by type, the graph)"""
    artifact = next(a for a in bundle.manifest.artifacts if a.role == role)
    path = bundle.folder / artifact.file
    return products(compile_part(path, artifact.settings)), load_graph(path)


def stored(part):
    """Products with int8 weights, with and without an int8 input."""
    products = [n for n in part.graph if weights_of(n) is not None]
    return len(products), sum(is_rounded(n.inputs[0]) for n in products)


@pytest.mark.parametrize("role", ROLES)
def test_every_product_with_int8_inputs_runs_as_int8(int8, role):
    ran, part = counted(int8, role)
    weights, inputs = stored(part)
    assert ran["i8"] == weights == inputs > 0
    assert not ran["f32"], "the convolution of the patches runs as int8 as well"


@pytest.mark.parametrize("role", ROLES)
def test_scores_are_products_of_integers_in_one_kernel_with_softmax(int8, role):
    """In every layer of a part with many queries; one query against all keys stays float."""
    path = int8.folder / f"openvino/{role}.onnx"
    softmax = [n.name for n in load_graph(path).graph if n.op_type == "Softmax"]
    ran = kernel_types(compile_part(path, {"threads": 1}))
    many = role in ("vision", "prefill")
    assert bool(softmax) == (role != "connector")
    assert {ran[name] for name in softmax} <= {"i8" if many else "f32"}


@pytest.mark.parametrize("role", ROLES)
def test_int8_weights_alone_run_in_float(small, role):
    """Anything else would round activations, which nobody asked for."""
    ran, part = counted(small, role)
    weights, inputs = stored(part)
    assert set(ran) == {"f32"} and ran["f32"] >= weights > inputs == 0


@pytest.mark.parametrize("role", ROLES)
def test_a_float_part_has_no_int8_product(plain, role):
    assert set(counted(plain, role)[0]) == {"f32"}


PRODUCT = (
    "(float[1,32,64] x) => (float[1,32,48] y) {{ q = QuantizeLinear <output_dtype=3> (x, s) "
    "a = DequantizeLinear (q, s) {} w = DequantizeLinear <axis=1> (wq, ws) y = MatMul ({}, w) }}"
)


@pytest.mark.parametrize(
    ("between", "given", "kind"), [("", "a", "i8"), ("b = Sin(a)", "b", "f32")]
)
def test_the_count_tells_the_two_apart(graph, saved, ort, between, given, kind):
    """The same product, its int8 input lost in between: what a de-fused graph looks like."""
    rng = np.random.default_rng(0)
    part = graph(
        PRODUCT.format(between, given),
        s=np.float32(0.02),
        wq=rng.integers(-127, 128, (64, 48)).astype(np.int8),
        ws=rng.uniform(0.001, 0.01, 48).astype(np.float32),
    )
    compiled = compile_part(saved(part), {"threads": 1})
    assert products(compiled) == {kind: 1}
    x = rng.normal(size=(1, 32, 64)).astype(np.float32)
    np.testing.assert_allclose(
        OpenPart(compiled).run([x])[0], ort(part, x=x)["y"], rtol=1e-4, atol=1e-4
    )


def test_codes_are_those_of_onnx_runtime_at_every_edge(graph, ort, run_openvino):
    """Halves round to even, and what is beyond the grid is clipped, on both sides."""
    steps = np.concatenate([np.arange(-260, 261) / 2, [1e6, -1e6, 0.49999997, -0.0]])
    x = (steps * 0.25).astype(np.float32)
    part = graph(
        f"(float[{x.size}] x) => (float[{x.size}] y) "
        "{ q = QuantizeLinear <output_dtype=3> (x, s) y = DequantizeLinear (q, s) }",
        s=np.float32(0.25),
    )
    wanted = ort(part, x=x)["y"]
    assert wanted.min() == -32 and wanted.max() == 31.75
    np.testing.assert_array_equal(run_openvino(part, {"x": x})["y"], wanted)
