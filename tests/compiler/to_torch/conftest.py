"""The bridge to torch against ONNX Runtime.

table                      cases_*.py: op -> rows; `row` is one of them, a test each
graph_of(inputs, nodes, constants)   a part from such a row
draw(part, seed)           feeds for all inputs of a part, by their names and types
both(part, feeds)          outputs by ONNX Runtime and by torch, as numpy arrays by name
equal(part, feeds)         asserts that they are equal: names, shapes, types, numbers
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.to_torch import GRADIENTS, Dialect, to_torch


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"to_torch_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


forms = _load("case_forms")
FAMILIES = ("numbers", "activations", "sums", "pictures")
CASES = {op: rows for name in FAMILIES for op, rows in _load(f"cases_{name}").CASES.items()}
#: ops of a later opset than parts have
LATER = {"Swish", "TensorScatter"}
ROWS = [(op, i) for op, rows in CASES.items() for i in range(len(rows))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        rows = [CASES[op][i] for op, i in ROWS]
        metafunc.parametrize("row", rows, ids=[f"{op}-{i}" for op, i in ROWS])


@pytest.fixture(scope="session")
def table():
    return CASES


@pytest.fixture(scope="session")
def graph_of(graph):
    def make(inputs: str, nodes: str, constants: dict[str, np.ndarray]) -> ir.Model:
        outputs = ", ".join(forms.outputs_of(nodes))
        part = graph(f"({inputs}) => ({outputs}) {{ {nodes.replace(';', ' ')} }}", **constants)
        if LATER & {node.op_type for node in part.graph}:
            part.opset_imports[""] = 24
        return part

    return make


@pytest.fixture(scope="session")
def draw():
    def feeds(part: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        found = {}
        for value in part.graph.inputs:
            shape, dtype = tuple(int(d) for d in value.shape), value.dtype.numpy()
            low, high = forms.DRAWN.get(value.name, (None, None))
            if value.dtype is ir.DataType.BOOL:
                drawn = rng.random(shape) < 0.7
            elif np.issubdtype(dtype, np.floating):
                drawn = rng.normal(size=shape) if low is None else rng.uniform(low, high, shape)
            else:
                drawn = rng.integers(*((-3, 4) if low is None else (low, high)), shape)
            found[str(value.name)] = np.asarray(drawn).astype(dtype)
        return found

    return feeds


@pytest.fixture(scope="session")
def both(ort):
    torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

    def run(part: ir.Model, feeds: dict[str, np.ndarray], dialect: Dialect = GRADIENTS):
        with torch.no_grad():
            made = to_torch(part, dialect)(
                {n: torch.from_numpy(a.copy()) for n, a in feeds.items()}
            )
        return ort(part, **feeds), {name: tensor.numpy() for name, tensor in made.items()}

    return run


@pytest.fixture(scope="session")
def equal(both):
    def check(
        part: ir.Model,
        feeds: dict[str, np.ndarray],
        rtol: float = 1e-5,
        dialect: Dialect = GRADIENTS,
    ) -> None:
        want, found = both(part, feeds, dialect)
        assert list(found) == list(want)
        for name, array in want.items():
            got = found[name]
            assert (got.dtype, got.shape) == (array.dtype, array.shape), name
            if array.dtype.kind == "f":
                finite = array[np.isfinite(array)].astype(np.float64)
                bound = rtol * float(np.abs(finite).max(initial=1e-30))
                np.testing.assert_allclose(got, array, rtol=rtol, atol=bound, err_msg=name)
            else:
                np.testing.assert_array_equal(got, array, err_msg=name)

    return check
