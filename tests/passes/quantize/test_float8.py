"""FP8 in graphs: against numpy's own arithmetic, what is left alone, what it costs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.layers import layers_of, weight_sizes
from edgevlm.compiler.quantised import is_float8, is_rounded, weights_of
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.weights import WeightWriter, load_graph, save_graph
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

F8 = ml_dtypes.float8_e4m3fn
RNG = np.random.default_rng(0)
ATTENTION = """(float[1,2,5,8] q, float[1,2,5,8] k, float[1,2,5,8] v) => (float[1,2,5,8] y) {
    [a] y = Attention(q, k, v) }"""


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def fp8(x, scale):
    """The definition, in float32 as a kernel would."""
    return np.clip(x / np.float32(scale), -448, 448).astype(F8).astype(np.float32)


def coarse(weight, axis):
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = (np.abs(weight).max(others, keepdims=True).astype(np.float64) / 448).astype(np.float32)
    codes = np.clip(weight.astype(np.float64) / scale, -448, 448).astype(F8)
    return codes.astype(np.float32) * scale


def steps(**weights):
    return (
        QuantizeWeights(number="e4m3", **weights),
        QuantizeActivations(number="e4m3", form="tensorrt"),
    )


def made(model, *feeds, **weights):
    first, second = steps(min_elements=1, **weights)
    second.calibration = Reference([{"vision": feed} for feed in feeds], [], [])
    return second(first(model).model)


def text(x, y, node):
    return f"(float{x} x) => (float{y} y) {{ [n] y = {node} }}"


FORMS = {
    "MatMul": (text("[2,7,48]", "[2,7,40]", "MatMul(x, w)"), (48, 40), 1),
    "Gemm": (text("[7,40]", "[7,48]", "Gemm<transB = 1>(x, w)"), (48, 40), 0),
    "Conv": (text("[1,6,8,8]", "[1,24,6,6]", "Conv(x, w)"), (24, 6, 3, 3), 0),
    "ConvTranspose": (text("[1,4,9,9]", "[1,8,11,11]", "ConvTranspose(x, w)"), (4, 8, 3, 3), 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_computes_with_rounded_weights_and_inputs(graph, solo, ort, form):
    body, shape, axis = FORMS[form]
    weight = normal(*shape)
    plain = graph(body, w=weight)
    x = normal(*[int(d) for d in plain.graph.inputs[0].shape])
    after = made(solo(plain), {"x": x}).model.parts["vision"]
    scale = np.float32(np.abs(x).max() / 448)
    x = 2 * x  # twice what was seen: saturates
    wanted = ort(graph(body, w=coarse(weight, axis)), x=fp8(x, scale) * scale)["y"]
    np.testing.assert_allclose(ort(after, x=x)["y"], wanted, rtol=1e-4, atol=1e-4)
    assert np.isfinite(wanted).all() and not np.allclose(ort(plain, x=x)["y"], wanted, rtol=0.01)
    node = next(n for n in after.graph if n.name == "n")
    maker = weights_of(node)
    assert is_float8(maker) and is_rounded(node.inputs[0]) and len(maker.inputs) == 2
    assert maker.inputs[0].shape == shape and maker.attributes["axis"].as_int() == axis
    assert maker.inputs[1].shape == (shape[axis],) and maker.inputs[1].dtype == ir.DataType.FLOAT
    (stored,) = [n for n in after.graph if n.op_type == "QuantizeLinear"]
    assert stored.outputs[0].dtype == ir.DataType.FLOAT8E4M3FN and len(stored.inputs) == 2
    assert float(stored.inputs[1].const_value.numpy()) == scale


def test_both_products_of_attention_are_rounded(graph, solo, ort):
    feed = {name: normal(1, 2, 5, 8) for name in "qkv"}
    result = made(solo(graph(ATTENTION)), feed)
    assert "4 inputs of attention as e4m3" in result.notes[-1].why
    q, k, v = feed["q"] * np.float32(8**-0.5), feed["k"], feed["v"]
    real = np.exp(np.einsum("bhqd,bhkd->bhqk", q, k))
    real /= real.sum(-1, keepdims=True)
    top = {n: np.float32(np.abs(a).max() / 448) for n, a in (("q", q), ("k", k), ("v", v))}
    score = np.einsum("bhqd,bhkd->bhqk", fp8(q, top["q"]), fp8(k, top["k"])) * top["q"] * top["k"]
    p = np.exp(score - score.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    p_top = np.float32(real.max() / 448)
    wanted = np.einsum("bhqk,bhkd->bhqd", fp8(p, p_top), fp8(v, top["v"])) * p_top * top["v"]
    found = ort(result.model.parts["vision"], **feed)["y"]
    assert np.abs(found - wanted).max() <= 32 * p_top * top["v"] * 448  # one code may tip over
    assert (
        np.abs(found - wanted).mean()
        < 1e-4
        < np.abs(found - ort(graph(ATTENTION), **feed)["y"]).mean()
    )


def test_tables_stay_float_and_it_is_said(graph, solo):
    body = (
        """(int64[1,3] i) => (float[1,3,40] y) { [look] e = Gather(t, i) [n] y = MatMul(e, w) }"""
    )
    weights = {"t": normal(60, 32), "w": normal(32, 40)}
    feed = {"i": np.array([[0, 5, 59]])}
    result = made(solo(graph(body, **weights)), feed)
    first = steps(min_elements=1)[0](solo(graph(body, **weights)))
    assert [(n.kind, n.where) for n in first.notes] == [
        ("skipped", "vision/look"),
        ("matched", "vision"),
    ]
    assert "table" in first.notes[0].why and "TensorRT" in first.notes[0].why
    assert first.notes[1].why == "1 weights to e4m3 (max)"
    stored = result.model.parts["vision"].graph.initializers
    assert stored["t"].dtype == ir.DataType.FLOAT and "w" not in stored
    assert not steps(min_elements=1)[0](result.model).changed, "a second time nothing is left"


def test_inputs_are_of_the_kind_that_weights_are(graph, solo):
    """Integer weights are no concern of the FP8 pass, nor FP8 ones of the other."""
    body = """(float[1,5,32] x) => (float[1,5,40] y, float[1,5,40] z) {
        [a] y = MatMul(x, u) h = Tanh(x) [b] z = MatMul(h, w) }"""
    model, feed = solo(graph(body, u=normal(32, 40), w=normal(32, 40))), {"x": normal(1, 5, 32)}
    rules = [{"match": "vision/b", "method": "none"}]
    mixed = QuantizeWeights(min_elements=1)(
        QuantizeWeights(min_elements=1, number="e4m3", layers=rules)(model).model
    ).model
    for number in ("e4m3", "int"):
        step = QuantizeActivations(number=number, form="tensorrt")
        step.calibration = Reference([{"vision": feed}], [], [])
        mixed = step(mixed).model
    part = mixed.parts["vision"]
    kinds = {
        n.name: n.inputs[0].producer().inputs[0].dtype.name
        for n in part.graph
        if n.op_type == "MatMul"
    }
    assert kinds == {"a": "FLOAT8E4M3FN", "b": "INT8"}
    open_session(part)


def test_a_byte_a_weight_in_memory_in_files_and_in_costs(graph, solo, tmp_path):
    body = text("[2,7,48]", "[2,7,40]", "MatMul(x, w)")
    part = made(solo(graph(body, w=normal(48, 40))), {"x": normal(2, 7, 48)}).model.parts["vision"]
    assert count(part).weight_bytes == 48 * 40 + 40 * 4 + 4
    codes = next(v for v in part.graph.initializers.values() if v.dtype == ir.DataType.FLOAT8E4M3FN)
    assert {size.bytes(2) for v, size in weight_sizes(part, folds=False).items() if v is codes} == {
        1920
    }
    (product,) = [layer for layer in layers_of(part, folds=False) if layer.macs]
    assert (
        product.dtype == "fp8"
        and product.weights.other == 48 * 40
        and product.reads.other == 2 * 7 * 48
    )
    with WeightWriter(tmp_path) as writer:
        save_graph(part, tmp_path / "part.onnx", writer)
    assert (tmp_path / "weights.bin").stat().st_size == 48 * 40
    read, x = load_graph(tmp_path / "part.onnx"), 3 * normal(2, 7, 48)
    again = open_session(read).run(None, {"x": x})[0]
    np.testing.assert_array_equal(again, open_session(part).run(None, {"x": x})[0])
    back = read.graph.initializers[codes.name].const_value
    assert back.tobytes() == codes.const_value.tobytes() and back.dtype == codes.dtype


def test_codes_that_fit_into_the_graph_file_come_back_too(graph, solo, tmp_path):
    body = text("[1,8]", "[1,4]", "MatMul(x, w)")
    part = made(solo(graph(body, w=normal(8, 4))), {"x": normal(1, 8)}).model.parts["vision"]
    with WeightWriter(tmp_path) as writer:
        save_graph(part, tmp_path / "part.onnx", writer)
    assert (tmp_path / "weights.bin").stat().st_size == 0
    x = normal(1, 8)
    wanted = open_session(part).run(None, {"x": x})[0]
    np.testing.assert_array_equal(
        open_session(load_graph(tmp_path / "part.onnx")).run(None, {"x": x})[0], wanted
    )


def test_torch_refuses_it_by_name(graph, solo):
    pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")
    from edgevlm.compiler.to_torch import missing_ops, to_torch

    body = text("[2,7,48]", "[2,7,40]", "MatMul(x, w)")
    model = solo(graph(body, w=normal(48, 40)))
    for made_of, said in (
        (steps()[0](model).model, "holds FLOAT8E4M3FN"),
        (made(model, {"x": normal(2, 7, 48)}).model, "rounding to FLOAT8E4M3FN"),
    ):
        with pytest.raises(JobFault) as caught:
            to_torch(made_of.parts["vision"])
        assert caught.value.code == "EV212"
        assert any(said in line for line in missing_ops(made_of.parts["vision"]))
