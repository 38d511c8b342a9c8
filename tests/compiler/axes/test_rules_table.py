"""Every op of the table belongs to one family, and every family has its file of tests."""

from __future__ import annotations

import pkgutil
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from edgevlm.compiler.axes import rules
from edgevlm.compiler.axes.analysis import analyse
from edgevlm.compiler.errors import JobFault

FAMILIES = sorted(m.name for m in pkgutil.iter_modules(rules.__path__) if m.name != "common")


def table(family: str) -> dict:
    return import_module(f"edgevlm.compiler.axes.rules.{family}").RULES


def test_every_op_is_in_exactly_one_family():
    ops = Counter(op for family in FAMILIES for op in table(family))
    assert set(ops) == set(rules.RULES)
    assert {op for op, count in ops.items() if count > 1} == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_test_file_that_runs_all_of_it(family):
    """The file parametrises over the family's own table, so an op without a case fails there."""
    text = (Path(__file__).parent / f"test_rules_{family}.py").read_text()
    assert f'parametrize("op", sorted({family}.RULES))' in text


def test_an_op_without_a_rule_stops_the_analysis_and_names_the_node(new_net):
    net = new_net()
    model = net.build(net("NonZero", net.input("x", 3, 4), name="the_node"))
    with pytest.raises(JobFault, match="NonZero is not known") as caught:
        analyse(model.graph)
    assert caught.value.code == "EV210" and "the_node" in caught.value.what
    assert "MatMul" in caught.value.why and "CONTRIBUTING" in caught.value.fix


def test_an_op_of_another_domain_is_unknown_even_if_its_name_is_not(new_net):
    net = new_net()
    y = net("Add", net.input("x", 3), net.input("y", 3), name="foreign")
    y.shape = None
    y.producer().domain = "com.vendor"
    with pytest.raises(JobFault, match=r"com\.vendor::Add is not known") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV210" and "foreign" in caught.value.what


def test_a_node_without_a_name_is_named_by_its_op_and_output(new_net):
    net = new_net()
    y = net("NonZero", net.input("x", 3, 4))
    model = net.build(indices=y)
    y.producer().name = ""  # as a file without node names loads
    with pytest.raises(JobFault) as caught:
        analyse(model.graph)
    assert "NonZero -> indices" in caught.value.what


def test_a_dimension_that_is_not_static_is_refused_with_the_value(new_net):
    net = new_net()
    x = net.input("x", 3, 4)
    x.shape = type(x.shape)(["batch", 4])
    with pytest.raises(JobFault, match="is not static") as caught:
        analyse(net.build(net("Relu", x)).graph)
    assert caught.value.code == "EV211" and "x" in caught.value.what


def test_a_dimension_without_elements_is_refused(new_net):
    net = new_net()
    with pytest.raises(JobFault, match="has no elements") as caught:
        analyse(net.build(net("Relu", net.input("x", 0, 4))).graph)
    assert caught.value.code == "EV211"


def test_a_shape_in_the_graph_that_is_wrong_is_refused_with_the_node(new_net):
    net = new_net()
    y = net("Relu", net.input("x", 3, 4), name="liar")
    model = net.build(y)
    y.shape = type(y.shape)([3, 5])
    with pytest.raises(JobFault, match=r"gives \[3, 4\], the graph says \[3, 5\]") as caught:
        analyse(model.graph)
    assert caught.value.code == "EV211" and "liar" in caught.value.what


def test_a_shape_computed_at_run_time_is_refused_with_the_node(new_net):
    net = new_net()
    x, target = net.input("x", 6), net.input("target", 2, dtype="INT64")
    y = net("Reshape", x, target, name="runtime_shape")
    with pytest.raises(JobFault, match=r"input 1 \(target\) .* computed at run time") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "runtime_shape" in caught.value.what


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Transpose", {"perm": [0, 7]}),
        ("Concat", {}),
        ("DepthToSpace", {}),
        ("ArgMax", {"axis": "x"}),
    ],
)
def test_a_malformed_node_is_refused_in_our_words(op, attributes, new_net):
    """A hostile or broken file must not end in a traceback."""
    net = new_net()
    y = net(op, net.input("x", 3, 4), name="broken", **attributes)
    with pytest.raises(JobFault, match=f"{op} is malformed") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "broken" in caught.value.what


def test_a_shared_initializer_has_other_axes_at_every_use(new_net, value_of):
    net = new_net()
    ones = net.weight([1.0] * 4, "ones")
    a = net("Mul", net.input("x", 2, 4), ones)
    b = net("Mul", net.input("y", 3, 4), ones)
    model = net.build(a, b)
    found = analyse(model.graph)
    (one,), (other,) = found.of(a)[1], found.of(b)[1]
    assert one.root is not other.root


def test_an_output_may_be_an_initializer(new_net, agrees):
    net = new_net()
    w = net.weight([1.0, 2.0], "constant_result")
    model = net.build(net("Relu", net.input("x", 3)), w)
    agrees(model, analyse(model.graph, {"constant_result": ("token",)}))
