"""int8 parts in ONNX Runtime: the same numbers, and products that really run as int8."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from edgevlm.compiler.executor import open_session
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.verify import answered_otherwise, observe
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.ort.int8_dialect import as_uint8
from edgevlm.runtimes.ort.runtime import HARMFUL

ROLES = ("vision", "connector", "prefill", "decode")


@pytest.fixture(scope="module")
def quantised(tiny_model, tiny_probes):
    steps = [QuantizeWeights(), QuantizeActivations()]
    model, _, seen = run_passes(tiny_model, steps, tiny_probes)
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
    artifacts = find_runtime("ort").lower(model, tmp_path)
    settings = {a.role: a.settings for a in artifacts}
    assert {r for r, s in settings.items() if s["int8"]} == set(ROLES)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    file = str(tmp_path / "ort" / f"{role}.onnx")
    onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"], disabled_optimizers=HARMFUL
    )
    ran = Counter(
        n.op_type
        for n in onnx.load(tmp_path / "optimised.onnx", load_external_data=False).graph.node
    )
    assert ran["MatMulIntegerToFloat"] == products(model.parts[role]) > 0
    assert ran["Gemm"] == 0


def test_the_artifacts_answer_as_their_graphs(quantised, tiny_probes, tmp_path):
    model, seen = quantised
    runtime = find_runtime("ort")
    parts = runtime.open_artifacts(tmp_path, runtime.lower(model, tmp_path), model.contract)
    ran = observe(model, tiny_probes, parts)
    assert answered_otherwise(seen, ran) == 0
    for a, b in zip(seen.logits, ran.logits, strict=True):
        assert np.abs(a - b).max() < 0.05 * np.abs(a).max()  # a sum's rounding may flip a code
