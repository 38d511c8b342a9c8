"""Nodes of instructions as a file beside a .pte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch import nodes as module
from edgevlm.runtimes.executorch.nodes import Node, nodes_as_json, read_nodes

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
NODES = st.dictionaries(
    NAMES,
    st.dictionaries(
        st.integers(0, 99), st.lists(st.builds(Node, NAMES, NAMES), max_size=3).map(tuple)
    ),
    max_size=3,
)


@settings(max_examples=30)
@given(NODES)
def test_there_and_back(tmp_path_factory, nodes):
    path = tmp_path_factory.getbasetemp() / "nodes.json"
    path.write_text(json.dumps(nodes_as_json(nodes)))
    assert read_nodes(path) == nodes


def test_recorded(recorded):
    nodes = read_nodes(recorded("int4-block.nodes.json"))["forward"]
    assert nodes[0] == (Node("native_layer_norm", "/norm"),)
    assert [n.node for n in nodes[1] if n.op == "linear"] == ["/q", "/k"]
    assert Node("_softmax", "/softmax") in nodes[4]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2, "methods": {}}',
        '{"schema": 1, "methods": []}',
        '{"schema": 1, "methods": {"f": {"x": []}}}',
        '{"schema": 1, "methods": {"f": {"0": [["a"]]}}}',
        '{"schema": 1, "methods": {"f": {"0": [["a", 1]]}}}',
        "[" * 100_000,
    ],
)
def test_another_file(tmp_path, text):
    path = tmp_path / "nodes.json"
    path.write_text(text)
    with pytest.raises(JobFault, match=r"EV360 nodes\.json cannot be read"):
        read_nodes(path)


def test_none_and_too_large(tmp_path, recorded, monkeypatch):
    with pytest.raises(JobFault, match="EV360"):
        read_nodes(tmp_path / "none.json")
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    with pytest.raises(JobFault, match="it has more than"):
        read_nodes(recorded("fp32.nodes.json"))
