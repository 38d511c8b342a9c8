"""The ORT runtime: its artifacts compute what the graphs say, with the settings of the manifest."""

from __future__ import annotations

import os
import time
from importlib.metadata import PackageNotFoundError

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.reference import observe
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.compiler.weights import load_graph
from edgevlm.runtimes import RUNTIMES, find_runtime, onnx_files
from edgevlm.runtimes.ort import runtime as module
from edgevlm.runtimes.ort.runtime import OrtRuntime, OrtSettings, open_part

ROLES = ("vision", "connector", "embed", "prefill", "decode")


def graphs(bundle) -> dict[str, ir.Model]:
    """The artifacts as in-memory graphs, for the reference executor (optimiser off)."""
    return {a.role: load_graph(bundle.folder / a.file) for a in bundle.manifest.artifacts}


def as_float(part: ir.Model) -> ir.Model:
    """The same graph with every int8 weight made float in numpy: no DequantizeLinear is left."""
    part = part.clone()
    for node in list(part.graph):
        values = [v.const_value for v in node.inputs[:2]]
        if node.op_type != "DequantizeLinear" or None in values:
            continue
        weight, scale = (v.numpy() for v in values)
        axis = node.attributes.get_int("axis", 1)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        array = weight.astype(np.float32) * scale.reshape(shape)
        tensor = ir.tensor(array, name=f"{node.outputs[0].name}_float")
        value = ir.Value(name=tensor.name, const_value=tensor, shape=ir.Shape(array.shape),
                         type=ir.TensorType(tensor.dtype))  # fmt: skip
        part.graph.register_initializer(value)
        for user, position in list(node.outputs[0].uses()):
            user.replace_input_with(position, value)
        part.graph.remove(node, safe=True)
    return infer_shapes(part)


@pytest.fixture(scope="module")
def seen(tiny_model, tiny_probes, small):
    """What every part of the pruned model is fed on the probes."""
    model = tiny_model.with_parts(small.manifest.contract, **graphs(small))
    return observe(model, tiny_probes)


@pytest.mark.parametrize("which", ["small", "plain"])
def test_artifacts_equal_the_reference_executor_on_all_probes(
    request, tiny_model, tiny_probes, which
):
    bundle = request.getfixturevalue(which)
    model = tiny_model.with_parts(bundle.manifest.contract, **graphs(bundle))
    wanted = observe(model, tiny_probes)
    parts = OrtRuntime().open(bundle)
    drift = compare_parts(ReferenceParts(model.parts), parts, wanted, ROLES)
    assert set(drift) == set(ROLES) and min(d.sqnr_db for d in drift.values()) > 80
    assert observe(model, tiny_probes, parts).answers == wanted.answers
    assert len(set(wanted.answers)) > 3


def test_int8_weights_are_folded_to_float_and_activations_are_not_rounded(small, seen):
    """Against the same graph with float weights: 80 dB and more.

    ONNX Runtime's own way with int8 weights rounds activations too, which is 37 dB a chain of
    products; the next test shows that this one would see it.
    """
    floats = {role: as_float(part) for role, part in graphs(small).items()}
    assert not any(
        n.op_type == "DequantizeLinear"
        for r in ("vision", "prefill", "decode")
        for n in floats[r].graph
    )
    drift = compare_parts(ReferenceParts(floats), OrtRuntime().open(small), seen, ROLES)
    assert set(drift) == set(ROLES) and min(d.sqnr_db for d in drift.values()) > 80


def test_the_runtimes_own_way_with_int8_would_be_seen(small, seen, monkeypatch):
    import onnxruntime as ort

    real = ort.SessionOptions.add_session_config_entry

    def without(self: object, key: str, value: str) -> None:
        if key != "session.disable_quant_qdq":
            real(self, key, value)

    monkeypatch.setattr(ort.SessionOptions, "add_session_config_entry", without)
    drift = compare_parts(ReferenceParts(graphs(small)), OrtRuntime().open(small), seen, ROLES)
    assert min(d.sqnr_db for d in drift.values()) < 60


def test_the_file_holds_int8_and_no_float_copy(small, plain):
    for role, part in graphs(small).items():
        tensors = [v.const_value for v in part.graph.initializers.values()]
        # a position embedding has rank 3, and is added, not multiplied
        large = [t for t in tensors if t.size > 2000 and len(t.shape) in (2, 4)]
        assert large and {t.dtype for t in large} == {ir.DataType.INT8}, role
    sizes = [(b.folder / "ort" / "weights.bin").stat().st_size for b in (small, plain)]
    assert sizes[0] < 0.27 * sizes[1]


def test_prefill_and_decode_share_their_weights(plain):
    decoder = sum(v.const_value.nbytes for v in graphs(plain)["decode"].graph.initializers.values())
    every = sum(
        v.const_value.nbytes for p in graphs(plain).values() for v in p.graph.initializers.values()
    )
    assert (plain.folder / "ort" / "weights.bin").stat().st_size < every - 0.95 * decoder


def test_small_parts_get_one_thread_and_large_ones_all(small, tiny_model, tmp_path, monkeypatch):
    assert {a.settings["threads"] for a in small.manifest.artifacts} == {1}
    monkeypatch.setattr(onnx_files, "SHARED_MACS", 10_000_000)
    artifacts = OrtRuntime().lower(tiny_model, tmp_path)
    assert {a.role: a.settings["threads"] for a in artifacts} == {
        "vision": 0, "connector": 1, "embed": 1, "prefill": 0, "decode": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "threads"),
    [({}, None), ({"threads": 0}, None), ({"threads": 1}, 1), ({"threads": 3}, 3)],
)
def test_settings_reach_the_session(small, settings, threads):
    session = open_part(small.folder / "ort" / "embed.onnx", settings)
    options = session.get_session_options()
    assert options.intra_op_num_threads == (threads or len(os.sched_getaffinity(0)))
    assert options.get_session_config_entry("session.disable_quant_qdq") == "1"
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_workers_rest_between_runs(graph, tmp_path):
    """Spinning, they would take the cores from the next part: prefill was 1.4 times as slow."""
    part = graph("(float[512,512] x) => (float[512,512] y) { y = MatMul(x, x) }")
    ir.save(part, tmp_path / "square.onnx")
    session = open_part(tmp_path / "square.onnx", {"threads": 4})
    spent = []
    for _ in range(5):
        session.run(None, {"x": np.ones((512, 512), np.float32)})
        before = time.process_time()
        time.sleep(0.05)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.002


@pytest.mark.parametrize(
    "settings", [{"threads": -1}, {"threads": 257}, {"threads": "2"}, {"x": 1}]
)
def test_settings_out_of_range_are_refused(small, settings):
    with pytest.raises(JobFault, match="EV322 settings of artifact embed"):
        open_part(small.folder / "ort" / "embed.onnx", settings)


def test_the_settings_it_writes_are_settings_it_reads(small):
    for artifact in small.manifest.artifacts:
        assert OrtSettings(**artifact.settings).model_dump() == artifact.settings


def test_lowering_twice_gives_the_same_bytes(micro_model, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        OrtRuntime().lower(micro_model, tmp_path / name)
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_the_dialect_lacks_is_refused_before_anything_is_written(micro_model, graph, tmp_path):
    odd = graph("(float[1,3,6,6] pixel_values) => (float[1,3,6,6] y) { y = Erf(pixel_values) }")
    node = next(iter(odd.graph))
    node.domain, node.name = "com.example", "odd"
    with pytest.raises(JobFault, match="EV303 part vision: node odd"):
        OrtRuntime().lower(micro_model.with_parts(vision=odd), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_fails_while_it_runs_is_told(small):
    parts = OrtRuntime().open(small)
    with pytest.raises(JobFault, match="EV307 artifact embed failed") as caught:
        parts.call("embed", {"input_ids": np.zeros((1, 3), np.int64)})
    assert len(caught.value.why) <= 300
    far = np.full((1, 32), 10**6, np.int64)
    with pytest.raises(JobFault, match="EV307"):
        parts.call("embed", {"input_ids": far})


def test_an_artifact_that_does_not_load_is_told_without_a_stack(tmp_path, capfd):
    path = tmp_path / "b" / "ort" / "x.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not onnx")
    with pytest.raises(JobFault, match="EV304") as caught:
        open_part(path, {})
    assert str(tmp_path / "b") in caught.value.fix and capfd.readouterr() == ("", "")
    assert "onnxruntime_src" not in caught.value.why


def test_the_toolchain_names_versions_or_what_to_install(monkeypatch):
    import onnxruntime

    assert OrtRuntime().toolchain()["onnxruntime"] == onnxruntime.__version__

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    with pytest.raises(JobFault, match="EV302 runtime ort lacks the package onnxruntime") as caught:
        OrtRuntime().toolchain()
    assert caught.value.fix == "pip install onnxruntime"


def test_every_runtime_there_is_can_be_had():
    for name in RUNTIMES:
        assert find_runtime(name).name == name
    with pytest.raises(Exception, match="EV302 runtime 'abacus': this edgevlm lowers to ort"):
        find_runtime("abacus")


def test_an_artifact_is_a_role_and_a_file():
    with pytest.raises(ValueError):
        Artifact(role="vision", file="../x")
