"""Time by op from OpenVINO's counters: all nodes that work, warm-up left out, nothing twice."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from edgevlm.compiler.weights import load_graph
from edgevlm.runtimes.openvino.kernels import is_product, products
from edgevlm.runtimes.openvino.op_profile import WARM_UP, _spent, profile_part, zero_inputs
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part
from edgevlm.runtimes.openvino.runtime import OpenVinoRuntime


@pytest.fixture(scope="module")
def rows(int8):
    found = defaultdict(list)
    for row in OpenVinoRuntime().profile_ops(int8, runs=20):
        found[row.role].append(row)
    return found


def test_every_part_is_there_and_its_shares_add_up(rows, int8):
    assert list(rows) == list(int8.manifest.contract.roles)
    for role in ("vision", "prefill"):  # the others are too small for whole microseconds
        assert sum(row.share for row in rows[role]) == pytest.approx(1)
    for part in rows.values():
        total = sum(row.ms for row in part) or 1.0
        assert all(row.share == pytest.approx(row.ms / total) for row in part)
        assert all(row.ms >= 0 and row.nodes > 0 and row.how == "measured-host" for row in part)
        assert [row.ms for row in part] == sorted((row.ms for row in part), reverse=True)
        assert len({row.op for row in part}) == len(part)


@pytest.mark.parametrize("role", ["vision", "prefill", "decode"])
def test_products_are_those_of_the_executed_graph(rows, int8, role):
    artifact = next(a for a in int8.manifest.artifacts if a.role == role)
    compiled = compile_part(int8.folder / artifact.file, artifact.settings)
    found = defaultdict(int)
    for row in rows[role]:
        kind, kernel = row.op.split()
        if is_product(kind):
            found[kernel.rpartition("_")[2].lower()] += row.nodes
    assert found == products(compiled)
    assert not any("undef" in row.op or row.op.startswith("Reshape") for row in rows[role])


def test_warm_up_runs_are_left_out():
    """With made-up counters: means over 3 runs, then over 3 + 2."""

    def node(name, kernel, micros):
        time = timedelta(microseconds=micros)
        return SimpleNamespace(node_name=name, node_type="A", exec_type=kernel, real_time=time)

    before = [node("x", "k_f32", 1000), node("y/DequantizationMultiply", "k_i8", 0)]
    after = [node("x", "k_f32", 604), node("y/DequantizationMultiply", "k_i8", 2)]
    fused = node("z", "undef", 9)
    x, y = _spent([*before, fused], [*after, fused], runs=2)
    assert x[:2] == ("A k_f32", "x") and y[:2] == ("A k_i8", "y")
    assert x[2] == pytest.approx((604 * (WARM_UP + 2) - 1000 * WARM_UP) / 2 / 1000)
    assert y[2] == pytest.approx(2 * (WARM_UP + 2) / 2 / 1000)


def test_nodes_go_by_their_names_in_the_file(int8):
    """So that a scheme which is slower can be blamed on layers of the graph."""
    times = OpenVinoRuntime().time_nodes(int8.folder, int8.manifest.artifacts[:1], 3)
    graph = load_graph(int8.folder / "openvino" / "vision.onnx").graph
    products = {f"vision/{n.name}" for n in graph if n.op_type == "MatMul"}
    assert len(products & set(times)) > 10 and min(times.values()) >= 0


def test_layers_come_in_the_order_in_which_they_run_with_the_device_that_ran_them(int8):
    layers = OpenVinoRuntime().profile_layers(int8, runs=2)
    assert list(dict.fromkeys(row.role for row in layers)) == list(int8.manifest.contract.roles)
    assert {row.unit for row in layers} == {"CPU"}
    nodes = [row.node for row in layers if row.role == "vision"]
    order = [n.name for n in load_graph(int8.folder / "openvino" / "vision.onnx").graph]
    places = [order.index(node) for node in nodes if node in order]
    assert len(places) > 20 and places[0] < 5 and places[-1] > len(order) - 5


def test_time_is_of_the_right_size(graph, saved):
    """Against the clock around whole runs: the counters see most of it and never more."""
    import time

    part = graph("(float[512,512] x) => (float[512,512] y) { a = MatMul(x, x) y = MatMul(a, x) }")
    path = saved(part)
    rows = profile_part(path, "vision", {"threads": 1}, 30)
    made = OpenPart(compile_part(path, {"threads": 1}))
    inputs, spent = zero_inputs(made), []
    for _ in range(30):
        start = time.perf_counter()
        made.run(inputs)
        spent.append(1000 * (time.perf_counter() - start))
    assert 0.3 * min(spent) < sum(row.ms for row in rows) < 30 * max(spent)


def test_inputs_are_zeros_and_masks_let_all_through(int8):
    path = int8.folder / "openvino" / "decode.onnx"
    inputs = zero_inputs(OpenPart(compile_part(path, {"threads": 1})))
    assert {a.dtype for a in inputs} == {np.dtype(t) for t in ("float32", "int64", "bool")}
    assert all(a.all() if a.dtype == np.bool_ else not a.any() for a in inputs)
