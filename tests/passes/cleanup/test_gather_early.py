"""gather-early: the same rows, computed alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.cost import count
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import load_model
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes.cleanup.gather_early import GatherEarly
from edgevlm.passes.cleanup.merge_duplicates import MergeDuplicates


@pytest.fixture(scope="module")
def model():
    return MergeDuplicates()(load_model(bundled_folder("easyvqa-tiny"))).model


@pytest.fixture(scope="module")
def early(model):
    return GatherEarly()(model)


def feeds(contract, last: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(last)
    rows = contract.prefill_length
    return {
        "inputs_embeds": rng.standard_normal((1, rows, contract.width)).astype(np.float32),
        "position_ids": np.arange(rows)[None],
        "last_index": np.array([last]),
    }


def test_prefill_computes_one_row_behind_the_last_attention(model, early) -> None:
    """Counted by hand: output projection and MLP of one of four layers fall from 96 rows to 1."""
    c = model.contract
    hidden = 384
    per_row = c.width * c.width + 3 * c.width * hidden
    saved = count(model.parts["prefill"]).macs - count(early.model.parts["prefill"]).macs
    assert saved == (c.prefill_length - 1) * per_row
    assert [n.where.split("/")[0] for n in early.notes if n.kind == "matched"] == ["prefill"]


@pytest.mark.parametrize("last", [0, 1, 50, 95])
def test_every_output_is_the_same(model, early, last) -> None:
    x = feeds(model.contract, last)
    want = open_session(model.parts["prefill"]).run(None, x)
    got = open_session(early.model.parts["prefill"]).run(None, x)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_outputs_keep_their_names_and_shapes(model, early) -> None:
    for before, after in zip(
        model.parts["prefill"].graph.outputs,
        early.model.parts["prefill"].graph.outputs,
        strict=True,
    ):
        assert (before.name, before.shape, before.dtype) == (after.name, after.shape, after.dtype)
    inputs = [v.name for v in early.model.parts["prefill"].graph.inputs]
    assert inputs == [v.name for v in model.parts["prefill"].graph.inputs], "a stand-in was left"


def test_twice_changes_nothing_more(early) -> None:
    assert not GatherEarly()(early.model).changed


def test_the_given_model_is_untouched(model) -> None:
    before = ir.to_proto(model.parts["prefill"]).SerializeToString(deterministic=True)
    GatherEarly()(model)
    assert ir.to_proto(model.parts["prefill"]).SerializeToString(deterministic=True) == before


OPS = ("Relu", "Tanh", "MatMul", "Add", "LayerNormalization", "Reshape", "Softmax", "mix", "fork")


def chain(ops: list[str], rows: int, picked: list[int] | int, stored: bool) -> ir.Model:
    """x [1,rows,4] -> ops -> Gather(picked); `mix` mixes rows, `fork` adds an earlier value."""
    rng = np.random.default_rng(0)
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23}, name="chain")
    x = ir.Value(name="x", shape=ir.Shape([1, rows, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(x)

    def const(a: np.ndarray, name: str) -> ir.Value:
        value = ir.Value(
            name=name,
            const_value=ir.tensor(a, name=name),
            shape=ir.Shape(a.shape),
            type=ir.TensorType(ir.DataType.from_numpy(a.dtype)),
        )
        graph.register_initializer(value)
        return value

    def add(op: str, ins: list[ir.Value], shape: list[int], **attributes: int) -> ir.Value:
        node = ir.node(op, ins, attributes=attributes, name=f"n{len(graph)}_{op}")
        node.outputs[0].name = f"v{len(graph)}"
        node.outputs[0].shape, node.outputs[0].dtype = ir.Shape(shape), ir.DataType.FLOAT
        graph.append(node)
        return node.outputs[0]

    value, earlier, full = x, x, [1, rows, 4]
    for i, op in enumerate(ops):
        before = value
        if op == "MatMul":
            value = add(op, [value, const(rng.standard_normal((4, 4)).astype("f"), f"w{i}")], full)
        elif op == "Add":
            value = add(op, [value, const(rng.standard_normal(4).astype("f"), f"b{i}")], full)
        elif op == "LayerNormalization":
            value = add(op, [value, const(np.ones(4, "f"), f"s{i}")], full)
        elif op == "Reshape":
            split = add(op, [value, const(np.array([1, rows, 2, 2]), f"r{i}")], [1, rows, 2, 2])
            value = add(op, [split, const(np.array([1, rows, 4]), f"q{i}")], full)
        elif op == "mix":
            left = const(rng.standard_normal((rows, rows)).astype("f"), f"m{i}")
            value = add("MatMul", [left, value], full)
        elif op == "fork":
            value = add("Add", [value, earlier], full)
        else:
            value = add(op, [value], full)
        earlier = before
    index = const(np.array(picked, np.int64), "picked")
    if not stored:
        del graph.initializers["picked"]
        index.const_value, index.dtype = None, ir.DataType.INT64
        graph.inputs.append(index)
    out = add("Gather", [value, index], [1, *np.shape(picked), 4], axis=1)
    out.name = "y"
    graph.outputs.append(out)
    return ir.Model(graph, ir_version=10)


indices = st.lists(st.integers(0, 6), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(
    ops=st.lists(st.sampled_from(OPS), max_size=8),
    picked=st.one_of(indices, st.integers(0, 6)),
    stored=st.booleans(),
)
def test_random_chains_keep_their_function(model, ops, picked, stored) -> None:
    stored = stored or isinstance(picked, int)
    part = chain(ops, 7, picked, stored)
    result = GatherEarly()(swap(model, part))
    after = result.model.parts["prefill"]
    x = {"x": np.random.default_rng(1).standard_normal((1, 7, 4)).astype(np.float32)}
    if not stored:
        x["picked"] = np.array(picked, np.int64)
    want, got = open_session(part).run(None, x)[0], open_session(after).run(None, x)[0]
    np.testing.assert_allclose(want, got, rtol=1e-4, atol=1e-5)
    assert count(after).macs <= count(part).macs
    row_wise = set(OPS) - {"mix", "Softmax"}
    assert result.changed == (bool(ops) and ops[-1] in row_wise)


@pytest.mark.parametrize("picked", [0, 3, [2, 3], [5, 0, 5]])
def test_a_stored_index_moves_too(model, picked) -> None:
    """A ViT classifier reads its class token with a constant."""
    part = chain(["mix", "MatMul", "LayerNormalization"], 7, picked, stored=True)
    after = GatherEarly()(swap(model, part)).model.parts["prefill"]
    rows = np.size(picked)
    assert count(part).macs - count(after).macs == (7 - rows) * 4 * 4
    assert list(after.graph.outputs[0].shape) == [1, *np.shape(picked), 4]


def swap(model, part: ir.Model):
    parts = {role: part if role == "prefill" else p for role, p in model.parts.items()}
    return model.with_parts(**parts)
