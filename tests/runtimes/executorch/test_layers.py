"""A profile of a bundle by node: names of the graph that was lowered, in time and in a file."""

from __future__ import annotations

import pytest
from micro.calls import call_here

from edgevlm.commands.report_gather import gather
from edgevlm.compiler.bundle import Bundle
from edgevlm.devices.report.layers import FAMILIES, family
from edgevlm.devices.report.placement import placement_view
from edgevlm.runtimes.executorch.bundle_layers import nodes_beside
from edgevlm.runtimes.executorch.nodes import read_nodes


def test_every_call_of_the_program_knows_its_node(lowered):
    """Of the graph that was lowered: but for what the bridge writes itself, in its own words."""
    made = lowered("w8a8")
    nodes = read_nodes(made.folder / "executorch/nodes.json")
    assert set(nodes) == set(made.model.parts)
    ours = ("attention/", "state/", "rows/", "linear/")
    for role, instructions in nodes.items():
        names = {str(node.name) for node in made.model.parts[role].graph}
        told = {each.node for made_of in instructions.values() for each in made_of}
        assert told and {name for name in told if not name.startswith(ours)} <= names, role


def test_products_go_by_the_names_that_recipes_have(lowered):
    """q k v o, up, down, head; a bias that was added behind is part of the product."""
    made = lowered("none")
    nodes = read_nodes(made.folder / "executorch/nodes.json")
    stored = {
        role: {str(n.name) for n in part.graph if n.op_type == "MatMul" and n.inputs[1].const_value}
        for role, part in made.model.parts.items()
    }
    for role in ("vision", "connector", "prefill", "decode"):
        calls = [each for of in nodes[role].values() for each in of if each.op == "linear"]
        assert stored[role] and stored[role] <= {each.node for each in calls}


def test_layers_of_all_parts(bundle_of):
    bundle = bundle_of("w8a8")
    from edgevlm.runtimes.executorch.runtime import ExecutorchRuntime

    layers = ExecutorchRuntime().profile_layers(bundle, runs=3)
    assert list(dict.fromkeys(row.role for row in layers)) == [
        "vision", "connector", "embed", "prefill", "decode",
    ]  # fmt: skip
    assert {row.unit for row in layers} == {"XNNPACK", "ExecuTorch"}
    products = [row for row in layers if row.op == "FullyConnected (QS8, QC8W)"]
    assert {row.node for row in products if row.role == "decode"} == {
        "n4", "n7", "n10", "n24", "n27", "n30",
    }  # fmt: skip
    # x * x of a norm is a square to XNNPACK, and its other products are told apart from it
    assert {row.node for row in layers if row.op == "Square" and row.role == "decode"} == {
        "n3", "n26", "n32",
    }  # fmt: skip
    by_op = {row.op: FAMILIES[family(row.op)][0] for row in layers}
    assert by_op["FullyConnected (QS8, QC8W)"] == "P" and by_op["MatMul (F32)"] == "P"
    assert by_op["embedding"] == by_op["index_put"] == by_op["copy_"] == "M"
    assert by_op["XnnpackBackend call"] == "R" and by_op["Softmax (F32)"] == "N"


def test_profile_and_report_show_it(bundle_of, tmp_path):
    bundle, page = bundle_of("w8a8"), tmp_path / "page.html"
    ended = call_here("profile", bundle.folder, "-n", "2", "--ops", "--json")
    assert ended.status == 0, ended.err
    assert {row["role"] for row in ended.json["ops"]} >= {"vision", "decode"}
    (tmp_path / "here.json").write_text(ended.out)
    call = ("report", bundle.folder, "--profile", tmp_path / "here.json", "-o", page)
    assert call_here(*call).status == 0
    assert "round the kernels of a delegate" in page.read_text()


def test_the_unit_is_that_of_the_backend(bundle_of):
    """Whichever the device file names first: a phone's is an NPU."""
    bundle = bundle_of("none")
    target = bundle.manifest.target.model_copy(update={"device": "pixel-9"})
    for backend, unit in (("xnnpack", "cpu"), ("vulkan", "gpu"), ("none such", "npu")):
        aimed = target.model_copy(update={"sdk": {"backend": backend}})
        moved = Bundle(bundle.folder, bundle.manifest.model_copy(update={"target": aimed}))
        assert gather(moved).expected == unit
    assert placement_view([], "cpu") is None


def test_a_bundle_of_before_has_no_nodes(bundle_of):
    bundle = bundle_of("none")
    files = {n: e for n, e in bundle.manifest.files.items() if not n.endswith("nodes.json")}
    older = Bundle(bundle.folder, bundle.manifest.model_copy(update={"files": files}))
    assert nodes_beside(older) is None and nodes_beside(bundle)


@pytest.mark.parametrize("scheme", ["none", "w8a8"])
def test_the_file_is_one_of_the_bundle(bundle_of, scheme):
    assert "executorch/nodes.json" in bundle_of(scheme).manifest.files
