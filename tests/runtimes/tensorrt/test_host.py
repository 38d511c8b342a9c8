"""Artifacts on this host: written, saved, opened, and computing what the model computes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.passes.precision.cast_half import CastHalf
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.tensorrt.aim import Aim
from edgevlm.runtimes.tensorrt.facts import facts
from edgevlm.runtimes.tensorrt.host import HostParts
from edgevlm.runtimes.tensorrt.runtime import TensorRtRuntime
from edgevlm.runtimes.tensorrt.written import written

SCHEMES = {
    "float16": (),
    "w8a8": (QuantizeWeights(min_elements=1), QuantizeActivations(form="tensorrt")),
    "w4a16": (QuantizeWeights(min_elements=1, bits=4, block=12),),
    "fp8": (
        QuantizeWeights(min_elements=1, number="e4m3"),
        QuantizeActivations(form="tensorrt", number="e4m3"),
    ),
}


@pytest.fixture(scope="module", params=SCHEMES)
def model(request, make_micro, micro_probes):
    """A model as it is lowered, and what it does."""
    made = make_micro(layers=2, heads=4, kv_heads=2, width=16, tower=1)
    made = apply_unchecked(made, [*SCHEMES[request.param], CastHalf()], micro_probes)
    return made, observe(made, micro_probes)


@pytest.fixture
def opened(tmp_path):
    """opened(model) -> its artifacts on this host."""

    def make(model, aim=None):
        artifacts = TensorRtRuntime(aim=aim).lower(model, tmp_path)
        return HostParts(tmp_path, artifacts, model.contract)

    return make


@pytest.mark.parametrize("release", ["10.3", "11.0"])
def test_what_is_written_computes_what_the_model_does(model, opened, release):
    made, seen = model
    host = opened(made, Aim(release))
    drift = compare_parts(ReferenceParts(made.parts), host, seen, list(made.parts))
    rounded = any(n.op_type == "QuantizeLinear" for p in made.parts.values() for n in p.graph)
    for role, found in drift.items():
        assert found.sqnr_db > (20 if rounded else 40), role


@pytest.mark.parametrize("release", [r.version for r in facts().releases])
def test_what_is_written_is_onnx_of_the_release(model, release):
    made, _ = model
    aim = Aim(release)
    for role, part in made.parts.items():
        graph = written(role, part, aim)
        ops = Counter(n.op_type for n in graph.graph)
        assert not aim.lacks & ops.keys()
        opset = graph.opset_imports[""]
        assert opset <= max(aim.opset, 21)
        onnx.checker.check_model(ir.to_proto(graph), full_check=True)


def overflowing(model):
    """Its connector doubles numbers of 40000 in float16, and halves them again."""
    part = model.parts["connector"].clone()
    node = next(n for n in part.graph if n.op_type == "Gelu")
    build = GraphBuilder(part, "more")
    value = node.outputs[0]
    users = list(value.uses())
    new = build("Mul", build("Mul", value, build.const(6e4, np.float16)),
                build.const(1 / 6e4, np.float16))  # fmt: skip
    for user, i in users:
        user.replace_input_with(i, new)
    build.finish()
    return model.with_parts(connector=part)


def test_float16_overflows_here_as_it_does_there(micro_model, micro_probes, opened):
    """ONNX Runtime's CPU would compute all of it in float32, and show nothing."""
    made = apply_unchecked(micro_model, [CastHalf()], micro_probes)
    feeds = observe(made, micro_probes).feeds[0]["connector"]
    feeds = {name: x * np.float32(4) for name, x in feeds.items()}
    found = opened(overflowing(made)).call("connector", feeds)["image_embeds"]
    assert not np.isfinite(found).all()


def test_an_artifact_with_other_ports_is_not_opened(micro_model, tmp_path):
    artifacts = TensorRtRuntime().lower(micro_model, tmp_path)
    half = micro_model.contract.model_copy(update={"kv_dtype": "FLOAT16"})
    with pytest.raises(JobFault, match=r"EV304 artifact prefill.onnx.*key_0 is FLOAT"):
        HostParts(tmp_path, artifacts, half)
    swapped = [a.model_copy(update={"file": artifacts[0].file}) for a in artifacts[1:2]]
    with pytest.raises(JobFault, match=r"EV304 artifact vision.onnx.*pixel_values"):
        HostParts(tmp_path, swapped, micro_model.contract)


def test_an_artifact_that_does_not_load_is_told_with_the_reason(micro_model, tmp_path):
    artifacts = TensorRtRuntime().lower(micro_model, tmp_path)
    path = tmp_path / artifacts[1].file
    proto = onnx.load(path)
    next(n for n in proto.graph.node if n.op_type == "MatMul").op_type = "NoSuchOp"
    onnx.save(proto, path)
    with pytest.raises(JobFault, match=r"EV304 artifact connector.onnx.*NoSuchOp"):
        HostParts(tmp_path, artifacts, micro_model.contract)
    path.unlink()
    with pytest.raises(JobFault, match=r"EV101 connector.onnx"):
        HostParts(tmp_path, artifacts, micro_model.contract)


def test_inputs_that_do_not_fit_are_told_and_nothing_crashes(micro_model, opened):
    host = opened(micro_model)
    with pytest.raises(JobFault, match=r"EV307 artifact embed failed while it ran"):
        host.call("embed", {"input_ids": np.zeros((1, 7), np.int64)})
    ids = {"input_ids": np.zeros((1, 6), np.int64)}
    assert host.call("embed", ids)["text_embeds"].shape[:2] == (1, 6)
