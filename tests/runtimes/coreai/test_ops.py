"""Every op of the bridge's own table, run by Core AI and by ONNX Runtime on the same numbers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.axes.rules import RULES
from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreai.capabilities import CAPABILITIES, UNKNOWN

TABLES = Path(__file__).parents[2] / "compiler" / "to_torch"


def neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"to_torch_{name}", TABLES / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


forms = neighbour("case_forms")
FAMILIES = ("numbers", "activations", "sums", "pictures")
CASES = {op: rows for name in FAMILIES for op, rows in neighbour(f"cases_{name}").CASES.items()}
#: every so many rows of an op that has dozens: each is a table of numbers, whatever its form
EVERY = {"Resize": 7}
ROWS = {
    f"{op}_{i}": row
    for op, rows in CASES.items()
    for i, row in enumerate(rows)
    if i % EVERY.get(op, 1) == 0
}
#: rows that are refused, and a word of the reason
REFUSED = {
    "Reshape_2": "rewrite",  # a size of zero
    "Gather_4": "rewrite",  # a number out of a row of numbers
    **{f"ScatterElements_{i}": "scatter_reduce" for i in (1, 2, 3, 4)},
    "ScatterND_1": "accumulate",
    "BitShift_2": "bitwise_right_shift",
    "Einsum_1": "diagonal",
    "MaxPool_10": "max_pool3d",
    "QuantizeLinear_1": "zero point",
    "QuantizeLinear_4": "block_size",
    "DequantizeLinear_1": "zero point",
    "DequantizeLinear_3": "zero point",
    "DynamicQuantizeLinear_0": "",
    "DynamicQuantizeLinear_1": "",
}
#: masks with rows that may look at nothing: zeros in ONNX, undefined here as in other kernels
NOTHING_TO_SEE = {"Attention_3", "Attention_6", "Attention_7"}
SEEDS = (0, 1, 2)
#: ops of a later opset than parts have
LATER = {"Swish", "TensorScatter"}
COUNTS = (1, 5, 40)


@pytest.fixture(scope="session")
def part_of(graph):
    def make(name: str) -> ir.Model:
        inputs, nodes, constants = ROWS[name]
        outputs = ", ".join(forms.outputs_of(nodes))
        part = graph(f"({inputs}) => ({outputs}) {{ {nodes.replace(';', ' ')} }}", **constants)
        if LATER & {node.op_type for node in part.graph}:
            part.opset_imports[""] = 24
        return part

    return make


@pytest.fixture(scope="session")
def outputs_of_all(part_of, run_coreai):
    """{seed: outputs by ROW__OUTPUT} of all rows that are taken, some dozens an asset."""
    names = [name for name in ROWS if name not in REFUSED]
    found: dict[int, dict[str, np.ndarray]] = {seed: {} for seed in SEEDS}
    for group in (names[i : i + 60] for i in range(0, len(names), 60)):
        parts = {name: part_of(name) for name in group}
        run = run_coreai(parts)
        for seed in SEEDS:
            feeds = {
                f"{name}__{value}": array
                for name, part in parts.items()
                for value, array in drawn(part, seed).items()
            }
            found[seed] |= run(feeds)
    return found


def drawn(part: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    rng, found = np.random.default_rng(seed), {}
    for value in part.graph.inputs:
        shape, dtype = tuple(int(d) for d in value.shape), value.dtype.numpy()
        low, high = forms.DRAWN.get(value.name, (None, None))
        if value.dtype is ir.DataType.BOOL:
            array = rng.random(shape) < 0.7
        elif np.issubdtype(dtype, np.floating):
            array = rng.normal(size=shape) if low is None else rng.uniform(low, high, shape)
        else:
            array = rng.integers(*((-3, 4) if low is None else (low, high)), shape)
        found[str(value.name)] = np.asarray(array).astype(dtype)
    return found


def test_the_table_is_that_of_the_dialect():
    assert CAPABILITIES.ops == set(RULES) - UNKNOWN
    assert set(REFUSED) | NOTHING_TO_SEE <= set(ROWS)
    refused = {name.partition("_")[0] for name in REFUSED}
    taken = {name.partition("_")[0] for name in ROWS if name not in REFUSED}
    assert refused - taken == UNKNOWN  # of all others there is a form


@pytest.mark.parametrize("name", sorted(set(ROWS) - set(REFUSED) - NOTHING_TO_SEE))
def test_it_computes_what_onnx_runtime_does(name, part_of, outputs_of_all, ort):
    part = part_of(name)
    for seed in SEEDS:
        for value, array in ort(part, **drawn(part, seed)).items():
            got = outputs_of_all[seed][f"{name}__{value}"]
            assert got.shape == array.shape
            assert got.dtype == {"i8": "i4", "f8": "f4"}.get(array.dtype.str[1:], array.dtype)
            if array.dtype.kind == "f":
                bound = 3e-5 * np.abs(array[np.isfinite(array)]).max(initial=1e-30)
                np.testing.assert_allclose(got, array, rtol=3e-5, atol=bound)
            else:
                np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_it_has_not_is_told_and_not_computed_otherwise(name, part_of, run_coreai):
    with pytest.raises(JobFault, match=r"EV303|EV212") as told:
        run_coreai({"main": part_of(name)})
    assert REFUSED[name] in told.value.why


@pytest.fixture(scope="session")
def top(graph, run_coreai):
    """The places of the 1, 5 and 40 largest of 40 scores."""
    text = "(float[40] s) => (int64[%d] p) { v, p = TopK(s, k) }"
    return run_coreai({f"k{n}": graph(text % n, k=np.array([n])) for n in COUNTS})


@settings(max_examples=25)
@given(
    levels=st.lists(st.integers(0, 3), min_size=40, max_size=40), keep=st.sampled_from([1, 5, 40])
)
def test_of_equal_scores_the_first_are_taken(levels, keep, top):
    """On this CPU, whose sort is stable; forms.py trusts no other unit with it."""
    scores = np.array(levels, np.float32)
    wanted = np.argsort(-scores, kind="stable").tolist()
    found = top({f"k{n}__s": scores for n in COUNTS})
    assert [found[f"k{n}__p"].tolist() for n in COUNTS] == [wanted[:n] for n in COUNTS]
