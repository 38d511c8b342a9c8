"""Every op of the capability table, run by OpenVINO and by ONNX Runtime on the same numbers.

The graphs are those of the axis rules' own tests, which have one for each op of the dialect.
"""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.axes.rules import RULES
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.keys import largest
from edgevlm.runtimes.openvino.capabilities import CAPABILITIES, UNKNOWN

RULE_TESTS = Path(__file__).parents[2] / "compiler" / "axes"
EQUATIONS = ("ab,bc->ac", "abc,abd->acd", "abc->cab", "ab,ab->", "ab->b")
#: forms of an op that OpenVINO refuses, though it reads others: capabilities.py names them
REFUSED = {"GatherElements", "LayerNormalization"}


def neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, RULE_TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases() -> dict[str, tuple[ModuleType, str]]:
    """name -> (the file with its graph, what its `build` wants)."""
    found = {}
    for path in sorted(RULE_TESTS.glob("test_rules_*.py")):
        module, family = neighbour(path.stem), path.stem.removeprefix("test_rules_")
        if family == "einsum":
            found |= {f"Einsum {text}": (module, text) for text in EQUATIONS}
        elif family != "table":
            rules = importlib.import_module(f"edgevlm.compiler.axes.rules.{family}").RULES
            found |= {op: (module, op) for op in rules}
    return found


CASES = cases()
TOOLS = neighbour("conftest")


def build(name: str):
    module, wanted = CASES[name]
    rng = (np.random.default_rng(0),) if "rng" in inspect.signature(module.build).parameters else ()
    return module.build(TOOLS.Net, wanted, *rng)


def test_every_op_of_the_table_has_a_case():
    assert {name.split()[0] for name in CASES} == set(RULES) == CAPABILITIES.ops | UNKNOWN


@pytest.mark.parametrize("name", sorted(set(CASES) - UNKNOWN - REFUSED - {"Dropout"}))
def test_it_computes_what_onnx_runtime_does(name, run_openvino):
    part = build(name)
    feeds = TOOLS.random_feeds(part)
    wanted, found = TOOLS.run_model(part, feeds), run_openvino(part, feeds)
    assert set(wanted) == set(found)
    for value in wanted:
        assert found[value].dtype == wanted[value].dtype
        assert found[value].shape == wanted[value].shape
        np.testing.assert_allclose(found[value], wanted[value], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(UNKNOWN | REFUSED))
def test_what_it_cannot_read_is_told_and_not_computed_otherwise(name, run_openvino):
    part = build(name)
    with pytest.raises(JobFault, match=f"EV304.*{name}"):
        run_openvino(part, TOOLS.random_feeds(part))


def test_dropout_is_an_identity(graph, run_openvino):
    """Alone, as in its case above, it would make the input the output, which then has one name."""
    part = graph("(float[2,3] x) => (float[2,3] y) { d = Dropout(x) y = Neg(d) }")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(run_openvino(part, {"x": x})["y"], -x)


@settings(max_examples=25)
@given(
    levels=st.lists(st.integers(0, 3), min_size=1, max_size=80),
    share=st.floats(0, 1),
)
def test_equal_scores_go_to_the_lower_index(levels, share, graph, run_openvino):
    """Its TopK takes any of them, so keys are made unique: the form that its name stands for."""
    scores = np.array(levels, np.float32)
    count, keep = len(scores), 1 + round(share * (len(scores) - 1))
    part = graph(f"(float[{count}] s) => (int64[{keep}] places) {{ places = Identity(p) }}",
                 p=np.zeros(keep, np.int64))  # fmt: skip
    make = GraphBuilder(part, "keys")
    node = part.graph.node(0)
    node.replace_input_with(0, largest(make, FORMS["openvino"], part.graph.inputs[0], count, keep))
    make.finish()
    wanted = np.argsort(-scores, kind="stable")[:keep]
    assert run_openvino(part, {"s": scores})["places"].tolist() == wanted.tolist()
