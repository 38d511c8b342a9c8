"""Kernels of integers that a graph asks for, against those that a program has."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.backends import find_backend
from edgevlm.runtimes.executorch.expects import expected_kernels
from edgevlm.runtimes.executorch.preflight import preflight

NONE = {"int8-static": 0, "int8-dynamic": 0, "int4": 0}


def test_products_by_what_they_multiply(graph):
    """x1 by a fixed scale, x2 by a scale a row, x3 not at all; weights of 8 and of 4 bits."""
    part = graph(
        """(float[2,4] x1, float[2,4] x2, float[2,4] x3, float[2,1] t)
        => (float[2,3] a, float[2,3] b, float[2,3] c, float[2,3] d, float[2,3] e, float[2,4] f) {
          w = DequantizeLinear(codes, scale)
          w4 = DequantizeLinear(codes4, scale)
          q1 = QuantizeLinear(x1, step)
          r1 = DequantizeLinear(q1, step)
          q2 = QuantizeLinear<axis=-1, block_size=4>(x2, t)
          r2 = DequantizeLinear<axis=-1, block_size=4>(q2, t)
          a = MatMul(r1, w)
          b = MatMul(r2, w)
          c = MatMul(r2, w4)
          d = MatMul(x3, w)
          e = MatMul(r1, float_w)
          f = Add(r1, x1)
        }""",
        codes=np.ones((4, 3), np.int8),
        codes4=np.ones((4, 3), np.int8),
        scale=np.array(0.1, np.float32),
        step=np.array(0.2, np.float32),
        float_w=np.ones((4, 3), np.float32),
    )
    four = part.graph.initializers["codes4"]
    four.const_value = ir.tensor(np.ones((4, 3), np.int8), dtype=ir.DataType.INT4, name="codes4")
    four.dtype = ir.DataType.INT4
    assert expected_kernels(part) == {"int8-static": 1, "int8-dynamic": 1, "int4": 1}


@pytest.mark.parametrize(
    ("scheme", "decode"),
    [
        ("none", NONE),
        ("w8a8", {"int8-static": 6, "int8-dynamic": 1, "int4": 0}),
        ("8da4w", {"int8-static": 0, "int8-dynamic": 0, "int4": 7}),
    ],
)
def test_a_program_has_what_its_graph_asks(lowered, scheme, decode):
    """q k v o, up, down and the head; norms and attention stay float."""
    made = lowered(scheme)
    found = made.runtime.preflight(made.folder, made.artifacts)
    assert found.done == "executorch 1.5.1, xnnpack on this CPU: 5 methods run, their kernels as " \
        "the graphs ask"  # fmt: skip
    parts = {part["role"]: part for part in found.as_json()["parts"]}
    assert list(parts) == ["vision", "connector", "embed", "prefill", "decode"]
    verdicts = {row["what"]: row["wanted"] for row in parts["decode"]["expects"]}
    assert verdicts == decode
    for part in parts.values():
        for row in part["expects"]:
            assert row["ok"] is True and row["found"] == row["wanted"], (part["role"], row)
    # three normalisations and two products of attention
    assert parts["decode"]["kernels"].get("fp32") == 5 + (7 if scheme == "none" else 0)
    assert parts["vision"]["share"] == 1 and parts["vision"]["left"] == {}


def test_the_table_is_a_row_a_part_as_texts(lowered):
    made = lowered("w8a8")
    table = made.runtime.preflight(made.folder, made.artifacts).as_json()["table"]
    assert table["headings"][0] == "part" and len(table["rows"]) == 5
    assert all(len(row) == len(table["headings"]) for row in table["rows"])
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert rows["vision"][:3] == ["1", "100.0 %", "none"]
    assert rows["connector"][3:] == ["1 int8-static, 1 int8-dynamic"] * 2
    assert "2 index_put" in rows["decode"][2] and rows["embed"][3:] == ["none", "none"]


def test_floats_in_place_of_integers_are_an_error(lowered):
    """The program of the float model, and what the graphs of the quantised one ask for."""
    plain, made = lowered("none"), lowered("w8a8")
    with pytest.raises(JobFault) as caught:
        preflight(plain.folder, made.artifacts, find_backend("xnnpack"))
    assert caught.value.code == "EV309"
    assert caught.value.what == "xnnpack has no integer kernels for all of part connector"
    assert "1 int8-static asked, 0 found, 1 int8-dynamic asked, 0 found" in caught.value.why
    assert "it ran 2 fp32" in caught.value.why and "--preflight none" in caught.value.fix


def test_one_kernel_too_few_is_an_error(lowered):
    made = lowered("8da4w")
    more = [
        each.model_copy(update={"settings": each.settings | {"expects": NONE | {"int4": 8}}})
        if each.role == "decode" else each
        for each in made.artifacts
    ]  # fmt: skip
    with pytest.raises(JobFault, match=r"part decode: products: 8 int4 asked, 7 found"):
        preflight(made.folder, more, find_backend("xnnpack"))


def test_what_does_not_run_here_is_placed_and_no_more(lowered):
    made = lowered("w8a8")
    elsewhere = dataclasses.replace(find_backend("vulkan"), runs_here=False)
    found = preflight(made.folder, made.artifacts, elsewhere)
    assert "placed; placement alone" in found.done and "nothing of it ran" in found.done
    assert all(part["kernels"] is None for part in found.more["parts"])
    assert {row["ok"] for part in found.more["parts"] for row in part["expects"]} == {None}
    assert {row[4] for row in found.table.rows} == {"not run here"}


def test_a_program_that_is_broken_is_told(lowered, tmp_path):
    made = lowered("none")
    (tmp_path / "executorch").mkdir()
    file = made.artifacts[0].file
    whole = (made.folder / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JobFault, match=r"EV307 method vision of model\.pte failed"):
        preflight(tmp_path, made.artifacts, find_backend("xnnpack"))
