"""Tiny graphs for the axis analysis, and ONNX Runtime as the judge of every shape and number.

net = new_net()                             opset 23, nodes named <op>_<count>
y = net("MatMul", net.input("x", 2, 5), net.weight(w))
model = net.build(y)

run(model, feeds)                           outputs by name, from ONNX Runtime, optimiser off
resized(model, "x", 1, 3, keep)             a clone with one axis resized, all shapes checked
refused(model)                              which dimensions of its inputs cannot be resized
agrees(model, found)                        every value: term sizes = static shape = ORT's shape
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.axes import analyse, resize, size_of
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.shapes import infer_shapes


class Net:
    """A graph under construction."""

    def __init__(self, opset: int = 23) -> None:
        self.opset = opset
        self.inputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []

    def input(self, name: str, *shape: int, dtype: str = "FLOAT") -> ir.Value:
        kind = ir.TensorType(ir.DataType[dtype])
        self.inputs.append(ir.Value(name=name, shape=ir.Shape(shape), type=kind))
        return self.inputs[-1]

    def weight(self, array, name: str | None = None) -> ir.Value:
        """An initializer; floating arrays become float32."""
        array = np.asarray(array)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        tensor = ir.tensor(array, name=name or f"w{len(self.weights)}")
        self.weights.append(
            ir.Value(
                name=tensor.name,
                const_value=tensor,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(tensor.dtype),
            )
        )
        return self.weights[-1]

    def ints(self, *numbers: int, name: str | None = None) -> ir.Value:
        return self.weight(np.array(numbers, np.int64), name)

    def __call__(self, op: str, *operands, outputs: int = 1, name: str | None = None, **attributes):
        name = name or f"{op}_{len(self.nodes)}"
        node = ir.node(op, operands, attributes, num_outputs=outputs, name=name)
        for i, value in enumerate(node.outputs):
            value.name = f"{name}:{i}" if i else name
        self.nodes.append(node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def build(self, *results: ir.Value, **named: ir.Value) -> ir.Model:
        for name, value in named.items():
            value.name = name
        graph = ir.Graph(
            self.inputs,
            [*results, *named.values()],
            nodes=self.nodes,
            initializers=self.weights,
            opset_imports={"": self.opset},
            name="net",
        )
        return infer_shapes(ir.Model(graph, ir_version=10))


def find(model: ir.Model, name: str) -> ir.Value:
    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    return next(v for v in values if v.name == name)


def run_all(model: ir.Model, feeds) -> dict[str, np.ndarray]:
    """Every value a node makes, by name."""
    values = tuple(v for node in model.graph for v in node.outputs if v.name and v.uses())
    names = [*(v.name for v in model.graph.outputs)]
    names += [v.name for v in values if v.name not in names]
    session = open_session(model, outputs=values)
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def run_model(model: ir.Model, feeds) -> dict[str, np.ndarray]:
    names = [v.name for v in model.graph.outputs]
    return dict(zip(names, open_session(model).run(names, dict(feeds)), strict=True))


def random_feeds(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Floats are normal, booleans fair, integers 0 or 1 (indices of whatever has two elements)."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        shape, dtype = tuple(value.shape), value.dtype.numpy()
        if dtype.kind == "f":
            feeds[value.name] = rng.normal(size=shape).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds


def check_shapes(model: ir.Model, found, feeds=None) -> None:
    """Terms, static shapes and what ONNX Runtime returns are one and the same."""
    got = run_all(model, random_feeds(model) if feeds is None else feeds)
    assert got
    for value, dims in found.terms.items():
        ours = [size_of(term) for term in dims]
        if value.shape is not None:  # ONNX infers no shape for GroupNormalization
            assert ours == list(value.shape), value.name
        if value.name in got:
            assert list(got[value.name].shape) == ours, value.name


def resize_clone(
    model: ir.Model, name: str, dim: int, size: int, keep=None, signature=None
) -> ir.Model:
    """A clone with the axis at dimension `dim` of a value resized; the original must not change."""
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    clone = model.clone()
    found = analyse(clone.graph, signature)
    resize(found, found.of(find(clone, name))[dim], size, keep)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    check_shapes(clone, found)
    check_shapes(clone, analyse(clone.graph, signature))  # and the result can be analysed again
    return clone


def refused_axes(model: ir.Model) -> set[tuple[str, int]]:
    """Drop the first element of every axis of every input in turn; which dimensions are refused.

    What is not refused must run, with the shapes that were promised; what is must name a node.
    """
    names = {node.name for node in model.graph}
    out = set()
    for value in model.graph.inputs:
        for dim, size in enumerate(value.shape):
            if size == 1:
                continue
            try:
                resize_clone(model, value.name, dim, size - 1, np.arange(1, size))
            except JobFault as fault:
                assert fault.code == "EV211"
                assert any(name in fault.what for name in names), fault
                out.add((value.name, dim))
    return out


@pytest.fixture(scope="session")
def refused():
    return refused_axes


@pytest.fixture(scope="session")
def new_net():
    return Net


@pytest.fixture(scope="session")
def run():
    return run_model


@pytest.fixture(scope="session")
def feeds_of():
    return random_feeds


@pytest.fixture(scope="session")
def value_of():
    return find


@pytest.fixture(scope="session")
def agrees():
    return check_shapes


@pytest.fixture(scope="session")
def resized():
    return resize_clone


@pytest.fixture(scope="session")
def random_graphs():
    """The module random_graphs.py; under importlib mode a test file cannot import its neighbour."""
    path = Path(__file__).with_name("random_graphs.py")
    spec = importlib.util.spec_from_file_location("axes_random_graphs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
