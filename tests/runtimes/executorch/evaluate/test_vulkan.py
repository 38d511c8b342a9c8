"""A miniature for Vulkan: what its delegates were given, read and run from the file."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.reference import observe

LEAST_DB = 90


@pytest.fixture(scope="module")
def vulkan(lowered):
    return lowered("none", "vulkan")


@pytest.fixture(scope="module")
def file(vulkan):
    from edgevlm.runtimes.executorch.evaluate.file import open_program

    return open_program(vulkan.folder / vulkan.artifacts[0].file)


def graphs(file):
    from edgevlm.runtimes.executorch.evaluate.vulkan import graph_of

    return [
        (name, delegate.payload, graph_of(delegate.payload, file.named))
        for name, plan in file.plans.items()
        for delegate in plan.delegates
    ]


def test_it_computes_what_its_graphs_do(vulkan):
    seen = observe(vulkan.model, vulkan.probes)
    sides = ReferenceParts(vulkan.model.parts), vulkan.parts
    found = compare_parts(*sides, seen, vulkan.model.parts)
    assert set(found) == set(vulkan.model.parts)
    assert min(drift.sqnr_db for drift in found.values()) >= LEAST_DB


def test_greedy_answers_are_the_same(vulkan):
    want, found = (observe(vulkan.model, vulkan.probes, p) for p in (None, vulkan.parts))
    assert found.answers == want.answers


def test_payloads_are_read_as_executorch_reads_them(file):
    """Its own reader is flatc, which is not for files of strangers."""
    from executorch.backends.vulkan.serialization import vulkan_graph_serialize as theirs

    from edgevlm.runtimes.executorch.evaluate.vulkan import Spec

    for name, payload, ours in graphs(file):
        header = theirs.VulkanDelegateHeader.from_bytes(payload[:30])
        at, size = header.flatbuffer_offset, header.flatbuffer_size
        graph = theirs.flatbuffer_to_vk_graph(payload[at : at + size])
        assert [(op.name, list(op.args)) for op in ours.ops] == [
            (op.name, op.args) for op in graph.chain
        ], name
        assert list(ours.inputs) == graph.input_ids and list(ours.outputs) == graph.output_ids
        for mine, other in zip(ours.values, graph.values, strict=True):
            if isinstance(mine, Spec):
                assert list(mine.dims) == (other.value.dims or [])
                assert mine.constant == other.value.constant_id


def test_weights_are_those_of_the_parts(vulkan, file):
    """Bytes of every product's weights, as they are or turned, and each of them once."""
    held = list(file.named.values())
    assert len(set(held)) == len(held)
    for role, part in vulkan.model.parts.items():
        for node in part.graph:
            if node.op_type != "MatMul" or node.inputs[1].const_value is None:
                continue
            weights = node.inputs[1].const_value.numpy()
            either = (weights.tobytes(), np.ascontiguousarray(weights.T).tobytes())
            assert any(each in held for each in either), (role, node.name)


def test_no_delegate_has_caches_of_its_own(file):
    """What prefill writes is what decode reads: they are the program's, and nobody's constants."""
    for method in ("read_caches", "write_caches"):
        assert not file.plans[method].delegates
    assert {name for name, _, _ in graphs(file)} == {
        "vision", "connector", "embed", "prefill", "decode",
    }  # fmt: skip


def test_the_table_says_what_stays_outside_and_that_nothing_ran(vulkan):
    found = vulkan.runtime.preflight(vulkan.folder, vulkan.artifacts)
    assert "this host has no vulkan" in found.note and "nothing of it ran" in found.done
    rows = {row[0]: row for row in found.table.rows}
    assert rows["decode"][1:4] == ["2", "98.2 %", "2 index_put"]
    assert rows["vision"][1:4] == ["1", "100.0 %", "none"]
    assert {row[4] for row in found.table.rows} == {"not run here"}


def test_it_says_what_it_is_proved_by(vulkan):
    runtime = vulkan.runtime
    assert runtime.sdk == {"backend": "vulkan"} and not runtime.runs_here
    assert "nothing of Vulkan ran" in runtime.proved_by
    assert runtime.unit_of(runtime.sdk) == "gpu"


def test_ops_that_are_not_known_are_told(vulkan, tmp_path):
    name = vulkan.artifacts[0].file
    whole = (vulkan.folder / name).read_bytes()
    (tmp_path / "executorch").mkdir()
    for was, now, code in (
        (b"aten.linear.default", b"aten.linear.defaulx", "EV303"),
        (b"VulkanBackend", b"VulkanBackenx", "EV303"),
        (b"VH00", b"VH01", "EV304"),
    ):
        assert was in whole
        (tmp_path / name).write_bytes(whole.replace(was, now))
        with pytest.raises(JobFault) as caught:
            vulkan.runtime.open_artifacts(tmp_path, vulkan.artifacts, vulkan.model.contract)
        assert caught.value.code == code


def test_its_time_is_not_taken_here(vulkan):
    from types import SimpleNamespace

    target = SimpleNamespace(sdk={"backend": "vulkan"})
    bundle = SimpleNamespace(folder=vulkan.folder, manifest=SimpleNamespace(target=target))
    for ask in (vulkan.runtime.check_timed, vulkan.runtime.profile_layers):
        with pytest.raises(UsageFault, match="this host has no vulkan") as caught:
            ask(bundle)
        assert caught.value.code == "EV434"
