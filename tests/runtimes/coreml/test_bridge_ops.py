"""Ops of the bridge's own table as a Core ML program, by our evaluator and by ONNX Runtime.

A form of each that came with pictures, activations and bits, all side by side in one program: a
conversion takes long. The other ops are in the parts that test_runtime.py converts.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

import torch

from edgevlm.compiler.axes.rules import RULES
from edgevlm.compiler.to_torch.exported import PartWithState, example_of
from edgevlm.runtimes.coreml.capabilities import CAPABILITIES, UNKNOWN
from edgevlm.runtimes.coreml.convert import DIALECT
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram

TABLES = Path(__file__).parents[2] / "compiler" / "to_torch"


def neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"to_torch_{name}", TABLES / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


forms = neighbour("case_forms")
CASES = neighbour("cases_activations").CASES | neighbour("cases_pictures").CASES
#: its input as an output, which coremltools has no name for beside others; alone it takes it
ITSELF = {"Dropout"}
#: a model has no inputs of these; rows with others are taken
NO_INPUTS = ("uint8[", "bool[")
TAKEN = {
    f"{op}_{i}": row
    for op, rows in CASES.items()
    for i, row in enumerate(rows)
    if op not in UNKNOWN | ITSELF and not any(kind in row[0] for kind in NO_INPUTS)
}
#: windows with gaps; and of dozens of forms of Resize, whose tables are all the same op, a few
LEFT_OUT = {"MaxPool_5"} | {name for name in TAKEN if name.startswith("Resize_")}
KEPT = {"Resize_0", "Resize_2", "Resize_4"}
#: one form an op, but for what has tricks of its own
MANY = ("AveragePool", "DepthToSpace", "IsInf", "Mod", "Resize")


class Beside(torch.nn.Module):
    """Parts that have nothing to do with each other as one function."""

    def __init__(self, parts: list[ir.Model]) -> None:
        super().__init__()
        self.nets = torch.nn.ModuleList([PartWithState(part, DIALECT) for part in parts])
        self.example = tuple(
            value
            for net, part in zip(self.nets, parts, strict=True)
            for value in example_of(part, net.inputs)
        )

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        left = list(values)
        return tuple(made for net in self.nets for made in net(*(left.pop(0) for _ in net.inputs)))


def chosen() -> list[str]:
    names = [name for name in TAKEN if name not in LEFT_OUT - KEPT]
    return [name for name in names if name.endswith("_0") or name.partition("_")[0] in MANY]


@pytest.fixture(scope="module")
def part_of(graph):
    def make(inputs: str, nodes: str, constants: dict[str, np.ndarray]) -> ir.Model:
        outputs = ", ".join(forms.outputs_of(nodes))
        part = graph(f"({inputs}) => ({outputs}) {{ {nodes.replace(';', ' ')} }}", **constants)
        if "Swish" in {node.op_type for node in part.graph}:  # of a later opset than parts have
            part.opset_imports[""] = 24
        return part

    return make


def drawn(part: ir.Model) -> dict[str, np.ndarray]:
    rng, found = np.random.default_rng(0), {}
    for value in part.graph.inputs:
        shape, dtype = tuple(int(d) for d in value.shape), value.dtype.numpy()
        low, high = forms.DRAWN.get(value.name, (-3, 4))
        whole = not np.issubdtype(dtype, np.floating)
        array = rng.integers(low, high, shape) if whole else rng.uniform(low, high, shape)
        found[str(value.name)] = array.astype(dtype)
    return found


@pytest.fixture(scope="module")
def outputs(part_of, convert, ort, tools):
    """[(row, what Core ML gives, what ONNX Runtime gives)]."""
    parts = {name: part_of(*TAKEN[name]) for name in chosen()}
    feeds = {name: drawn(part) for name, part in parts.items()}
    net = Beside(list(parts.values()))
    made = [f"made_{i}" for i in range(sum(len(net.outputs) for net in net.nets))]
    names = [tools.TensorType(name=name) for name in made]  # its own would meet
    program = MilProgram(convert(net, net.example, "FLOAT32", outputs=names))
    main = program.functions["main"]
    values = [array for each in feeds.values() for array in each.values()]
    narrow = [v.astype(np.int32) if v.dtype == np.int64 else v for v in values]
    found = iter(program.call("main", dict(zip(main.inputs, narrow, strict=True))).values())
    wanted = [
        (name, array) for name, part in parts.items() for array in ort(part, **feeds[name]).values()
    ]
    return [(name, next(found), array) for name, array in wanted]


def test_it_computes_what_onnx_runtime_does(outputs):
    strays = {}
    for name, got, want in outputs:
        assert got.shape == want.shape, name
        a, b = got.astype(np.float64), want.astype(np.float64)
        finite = np.abs(b[np.isfinite(b)]).max(initial=1e-30)
        if not np.allclose(a, b, rtol=1e-4, atol=1e-4 * finite, equal_nan=True):
            strays[name] = np.abs(a - b).max()
    assert not strays


def test_every_op_of_the_two_tables_is_there_or_unknown():
    assert {name.partition("_")[0] for name in chosen()} == set(CASES) - UNKNOWN - ITSELF
    assert CAPABILITIES.ops == set(RULES) - UNKNOWN and set(RULES) > UNKNOWN


@pytest.mark.parametrize("op", sorted(UNKNOWN - {"BitShift"}))  # which is of bytes alone
def test_what_it_has_not_is_refused_by_coremltools_itself(op, part_of, convert):
    """So that the list of what is unknown gets shorter when that of coremltools gets longer."""
    net = Beside([part_of(*CASES[op][0])])
    with pytest.raises((NotImplementedError, AttributeError), match=r"(?i)bitwise|sinh|cosh"):
        convert(net, net.example, "FLOAT32")
