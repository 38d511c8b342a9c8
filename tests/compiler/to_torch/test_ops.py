"""Every op of the table, in every form it takes, against ONNX Runtime."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.axes.rules import RULES
from edgevlm.compiler.to_torch.ops import OPS

#: not of the dialect: folding takes the first two out, and no part has the third
ONLY_HERE = {"Constant", "DynamicQuantizeLinear", "Shape"}


def test_it_computes_what_onnx_runtime_does(row, graph_of, draw, equal):
    part = graph_of(*row)
    for seed in range(3):
        equal(part, draw(part, seed))


def test_every_op_has_a_case_and_every_case_an_op(table):
    assert set(table) == set(OPS)


def test_what_the_legaliser_lets_through_has_a_counterpart():
    assert set(RULES) - set(OPS) == set()
    assert set(OPS) - set(RULES) == ONLY_HERE


def test_a_case_has_its_op_in_it(table, graph_of):
    for op, rows in table.items():
        for row in rows:
            assert op in {node.op_type for node in graph_of(*row).graph}
