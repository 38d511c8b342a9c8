"""int8 parts in ONNX Runtime: the same numbers, and products that really run as int8."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.executor import ReferenceParts, open_session
from edgevlm.compiler.pass_manager import apply_unchecked, run_passes
from edgevlm.compiler.reference import observe
from edgevlm.compiler.verify import answered_otherwise
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_kv import QuantizeKv
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.ort.int8_dialect import as_uint8
from edgevlm.runtimes.ort.runtime import HARMFUL

ROLES = ("vision", "connector", "prefill", "decode")


@pytest.fixture(scope="module")
def quantised(tiny_model, tiny_probes):
    steps = [QuantizeWeights(), QuantizeActivations()]
    model = apply_unchecked(tiny_model, steps, tiny_probes)  # each pass is proved elsewhere
    seen = observe(model, tiny_probes)
    return model, seen


def products(part):
    made = [n.inputs[1].producer() for n in part.graph if n.op_type == "MatMul"]
    return sum(m is not None and m.op_type == "DequantizeLinear" for m in made)


@pytest.mark.parametrize("role", ROLES)
def test_it_is_the_same_bit_for_bit(quantised, role):
    """Optimiser off on both sides; inputs up to four times what was calibrated."""
    model, seen = quantised
    part = model.parts[role]
    sessions = [open_session(p) for p in (part, as_uint8(part))]
    for size in (1, 4):
        feed = {
            name: value * np.float32(size) if value.dtype == np.float32 else value
            for name, value in seen.feeds[0][role].items()
        }
        a, b = (s.run(None, feed) for s in sessions)
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def cached(quantised, tiny_probes):
    """The same with int8 caches."""
    model, _, seen = run_passes(quantised[0], [QuantizeKv()], tiny_probes)
    return model, seen


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_ports_stay_int8_without_a_zero_point_and_the_rest_is_as_before(cached, role):
    model, seen = cached
    part, made = model.parts[role], as_uint8(model.parts[role])
    for value in (*made.graph.inputs, *made.graph.outputs):
        if value.name.removeprefix("past_").startswith(("key_", "value_")):
            assert value.dtype == ir.DataType.INT8
            (node,) = {value.producer()} - {None} or {n for n, _ in value.uses()}
            zero = node.inputs[2].const_value.numpy()
            assert zero.dtype == np.int8 and not zero.any()
    inner = [n for n in made.graph if n.op_type == "QuantizeLinear"]
    inner = [n for n in inner if not n.outputs[0].is_graph_output()]
    assert len(inner) == sum(
        n.op_type == "QuantizeLinear" and not n.outputs[0].is_graph_output() for n in part.graph
    )
    assert {n.outputs[0].dtype for n in inner} == {ir.DataType.UINT8}
    feeds = dict(seen.feeds[0][role])
    for name, value in feeds.items():
        if value.dtype == np.int8:
            feeds[name] = np.random.default_rng(0).integers(-128, 128, value.shape, np.int8)
    a, b = (open_session(p).run(None, feeds) for p in (part, made))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("weights", [True, False])
def test_codes_at_the_ports_alone_leave_products_float(tiny_model, tiny_probes, weights, tmp_path):
    """Else ONNX Runtime would round activations of products with int8 weights, unasked."""
    steps = [*([QuantizeWeights()] if weights else []), QuantizeKv()]
    model = apply_unchecked(tiny_model, steps, tiny_probes)  # each pass is proved elsewhere
    seen = observe(model, tiny_probes)
    runtime = find_runtime("ort")
    artifacts = runtime.lower(model, tmp_path)
    assert not any(a.settings["int8"] for a in artifacts)
    parts = runtime.open_artifacts(tmp_path, artifacts, model.contract)
    ran = observe(model, tiny_probes, parts)
    assert ran.answers == seen.answers
    for a, b in zip(seen.logits, ran.logits, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max())


def test_int8_caches_beside_int8_products(cached, tiny_probes, tmp_path):
    model, seen = cached
    runtime = find_runtime("ort")
    artifacts = runtime.lower(model, tmp_path)
    assert {a.role for a in artifacts if a.settings["int8"]} == set(ROLES)
    parts = runtime.open_artifacts(tmp_path, artifacts, model.contract)
    drift = compare_parts(ReferenceParts(model.parts), parts, seen, ("prefill", "decode"))
    assert min(d.sqnr_db for d in drift.values()) > 40
    assert answered_otherwise(seen, observe(model, tiny_probes, parts)) == set()


def test_the_compilers_own_graph_has_no_zero_point(quantised):
    for part in quantised[0].parts.values():
        before = [len(n.inputs) for n in part.graph if n.op_type.endswith("quantizeLinear")]
        as_uint8(part)
        assert set(before) <= {2}
        assert before == [len(n.inputs) for n in part.graph if n.op_type.endswith("quantizeLinear")]


@pytest.mark.parametrize("role", ROLES)
def test_every_product_runs_as_int8(quantised, tmp_path, role):
    """Counted in the graph that ONNX Runtime runs: an int8 file of float products is slower."""
    model, _ = quantised
    ran = executed(model, tmp_path, role)
    assert ran["MatMulIntegerToFloat"] == products(model.parts[role]) > 0
    assert ran["Gemm"] == 0
    assert ran["DequantizeLinear"] == (role == "vision"), "positions; no weights of a convolution"


@pytest.mark.parametrize("form", ["fold", "branches", "ell"])
def test_dasq_runs_as_int8_in_every_form(tiny_model, tiny_probes, tmp_path, form):
    """Four bits are widened; two products where it is two, and the table of outliers in float."""
    steps = [QuantizeWeights(bits=4, method="dasq", form=form), QuantizeActivations()]
    model = apply_unchecked(tiny_model, steps, tiny_probes)  # each pass is proved elsewhere
    seen = observe(model, tiny_probes)
    ran = executed(model, tmp_path / "a", "prefill")
    assert ran["MatMulIntegerToFloat"] == products(model.parts["prefill"])
    assert ran["MatMulIntegerToFloat"] == (58 if form == "branches" else 29)
    assert not ran["DequantizeLinear"]
    runtime = find_runtime("ort")
    (tmp_path / "b").mkdir()
    artifacts = runtime.lower(model, tmp_path / "b")
    parts = runtime.open_artifacts(tmp_path / "b", artifacts, model.contract)
    assert answered_otherwise(seen, observe(model, tiny_probes, parts)) == set()


def executed(model, folder, role):
    """Ops by number in the graph that ONNX Runtime runs."""
    folder.mkdir(exist_ok=True)
    artifacts = find_runtime("ort").lower(model, folder)
    settings = {a.role: a.settings for a in artifacts}
    assert {r for r, s in settings.items() if s["int8"]} == set(ROLES)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    file = str(folder / "ort" / f"{role}.onnx")
    onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"], disabled_optimizers=HARMFUL
    )
    graph = onnx.load(folder / "optimised.onnx", load_external_data=False).graph
    return Counter(n.op_type for n in graph.node)


def test_the_artifacts_answer_as_their_graphs(quantised, tiny_probes, tmp_path):
    model, seen = quantised
    runtime = find_runtime("ort")
    parts = runtime.open_artifacts(tmp_path, runtime.lower(model, tmp_path), model.contract)
    ran = observe(model, tiny_probes, parts)
    assert answered_otherwise(seen, ran) == set()
    for a, b in zip(seen.logits, ran.logits, strict=True):
        assert np.abs(a - b).max() < 0.05 * np.abs(a).max()  # a sum's rounding may flip a code
