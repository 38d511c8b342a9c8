"""The OpenVINO runtime: its artifacts compute what the graphs say, and broken ones are told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.quantised import check_symmetric
from edgevlm.compiler.reference import observe
from edgevlm.compiler.weights import load_graph
from edgevlm.runtimes import onnx_files as module
from edgevlm.runtimes.openvino import open_part
from edgevlm.runtimes.openvino.runtime import OpenVinoRuntime

ROLES = ("vision", "connector", "embed", "prefill", "decode")


def graphs(bundle: Bundle) -> dict[str, ir.Model]:
    """The artifacts as in-memory graphs, for the reference executor."""
    return {a.role: load_graph(bundle.folder / a.file) for a in bundle.manifest.artifacts}


def strayed(model, probes, bundle, parts=None):
    """dB of every part of the bundle against the reference executor, on what it is fed."""
    whole = model.with_parts(bundle.manifest.contract, **graphs(bundle))
    seen = observe(whole, probes)
    parts = parts or OpenVinoRuntime().open(bundle)
    drift = compare_parts(ReferenceParts(whole.parts), parts, seen, ROLES)
    assert set(drift) == set(ROLES)
    answers = observe(whole, probes, parts).answers
    assert answers == seen.answers and len(set(answers)) > 3
    return {role: d.sqnr_db for role, d in drift.items()}


@pytest.mark.parametrize(("which", "floor"), [("plain", 100), ("small", 100), ("int8", 40)])
def test_artifacts_equal_the_reference_executor_on_all_probes(
    request, tiny_model, tiny_probes, which, floor
):
    """Rounded inputs of products: a sum's last bit may put a number on the next code."""
    found = strayed(tiny_model, tiny_probes, request.getfixturevalue(which))
    assert min(found.values()) > floor, found


def test_int8_weights_with_rounded_activations_would_be_seen(
    small, tiny_model, tiny_probes, monkeypatch
):
    """What the plugin does where nobody says otherwise, and why it is told."""
    core, reader = open_part.engine()

    class Core:
        def compile_model(self, model, device, properties):
            del properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"]
            return core.compile_model(model, device, properties)

    monkeypatch.setattr(open_part, "engine", lambda: (Core(), reader))
    parts = OpenVinoRuntime().open(small)
    assert min(strayed(tiny_model, tiny_probes, small, parts).values()) < 60


def test_the_file_holds_int8_without_a_zero_point(int8, tiny_model):
    parts = graphs(int8)
    check_symmetric(replace(tiny_model, parts=parts))
    for role in ("vision", "prefill", "decode"):
        assert any(node.op_type == "QuantizeLinear" for node in parts[role].graph)
        tensors = [v.const_value for v in parts[role].graph.initializers.values()]
        large = [t for t in tensors if t.size > 2000 and len(t.shape) in (2, 4)]
        assert large and {t.dtype for t in large} == {ir.DataType.INT8}


def test_prefill_and_decode_share_their_weights(plain):
    stored = (plain.folder / "openvino" / "weights.bin").stat().st_size
    sizes = {
        role: sum(v.const_value.nbytes for v in part.graph.initializers.values())
        for role, part in graphs(plain).items()
    }
    assert stored < sum(sizes.values()) - 0.95 * sizes["decode"]


def test_small_parts_get_one_thread_and_large_ones_all(small, tiny_model, tmp_path, monkeypatch):
    assert {a.settings["threads"] for a in small.manifest.artifacts} == {1}
    monkeypatch.setattr(module, "SHARED_MACS", 10_000_000)
    artifacts = OpenVinoRuntime().lower(tiny_model, tmp_path)
    assert {a.role: a.settings["threads"] for a in artifacts} == {
        "vision": 0, "connector": 1, "embed": 1, "prefill": 0, "decode": 1,
    }  # fmt: skip


def test_lowering_twice_gives_the_same_bytes(micro_model, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        OpenVinoRuntime().lower(micro_model, tmp_path / name)
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_lowering_leaves_the_model_as_it_was(micro_model, tmp_path):
    before = {r: ir.to_proto(p).SerializeToString() for r, p in micro_model.parts.items()}
    OpenVinoRuntime().lower(micro_model, tmp_path)
    assert before == {r: ir.to_proto(p).SerializeToString() for r, p in micro_model.parts.items()}


def test_opening_and_running_writes_nothing(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = sorted((p, p.stat().st_mtime_ns) for p in plain.folder.rglob("*"))
    parts = OpenVinoRuntime().open(plain)
    parts.call("embed", {"input_ids": np.zeros((1, 32), np.int64)})
    assert list(tmp_path.iterdir()) == []
    assert before == sorted((p, p.stat().st_mtime_ns) for p in plain.folder.rglob("*"))


def test_what_the_dialect_lacks_is_refused_before_anything_is_written(micro_model, graph, tmp_path):
    odd = graph("(float[1,3,6,6] pixel_values) => (float[1,3,6,6] y) { y = Erf(pixel_values) }")
    node = next(iter(odd.graph))
    node.domain, node.name = "com.example", "odd"
    with pytest.raises(JobFault, match="EV303 part vision: node odd"):
        OpenVinoRuntime().lower(micro_model.with_parts(vision=odd), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("feeds", "why"),
    [
        ({"input_ids": np.zeros((1, 3), np.int64)}, r"the part takes int64 \[1, 32\]"),
        ({"input_ids": np.zeros((1, 32), np.float32)}, "float32"),
        ({}, "inputs are"),
        ({"input_ids": np.zeros((1, 32), np.int64), "x": np.zeros(1)}, "'x'"),
    ],
)
def test_a_part_that_is_fed_otherwise_is_told(plain, feeds, why):
    """OpenVINO would run with what an input held before, or convert it in silence."""
    parts = OpenVinoRuntime().open(plain)
    with pytest.raises(JobFault, match=f"EV307 artifact embed failed while it ran: .*{why}"):
        parts.call("embed", feeds)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(int64[1,32] ids) => (float[1,32,128] text_embeds) { text_embeds = %s }", "or ids is"),
        ("(float[1,32] input_ids) => (float[1,32,128] text_embeds) { text_embeds = %s }", "FLOAT"),
        ("(int64[1,9] input_ids) => (float[1,9,128] text_embeds) { text_embeds = %s }", r"\[1, 9"),
        ("(int64[1,32] input_ids) => (float[1,32,128] other) { other = %s }", "output other is"),
        ("(int64[1,32] input_ids, float[1] x) => (float[1,32,128] text_embeds, float[1] z) "
         "{ text_embeds = %s z = Relu(x) }", "it has 2 inputs"),
    ],
)  # fmt: skip
def test_a_graph_with_other_ports_is_refused(plain, graph, tmp_path, text, why):
    name = "input_ids" if "input_ids" in text else "ids"
    look_up = f"Gather(table, cast) cast = Cast <to=7> ({name})"
    part = graph(text % look_up, table=np.zeros((104, 128), np.float32))
    part.graph.sort()
    home = tmp_path / "openvino"
    home.mkdir()
    ir.save(part, home / "embed.onnx")
    artifact = next(a for a in plain.manifest.artifacts if a.role == "embed")
    with pytest.raises(JobFault, match=rf"EV304 artifact embed\.onnx cannot be used: .*{why}"):
        OpenVinoRuntime().open_artifacts(tmp_path, [artifact], plain.manifest.contract)


def test_missing_weights_are_told_before_openvino_sees_the_file(plain, tmp_path):
    shutil.copytree(plain.folder / "openvino", tmp_path / "openvino")
    (tmp_path / "openvino" / "weights.bin").unlink()
    with pytest.raises(JobFault, match=r"EV101 .*\n?.*weights\.bin"):
        OpenVinoRuntime().open(Bundle(tmp_path, plain.manifest))


def test_the_toolchain_names_versions():
    assert OpenVinoRuntime().toolchain() == {p: version(p) for p in ("openvino", "onnx")}
