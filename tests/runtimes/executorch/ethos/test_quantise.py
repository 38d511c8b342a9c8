"""What is done to a program before Arm's tools see it, and the integers at its ends: by torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.ethos.graph import DEQUANTIZE, QUANTIZE, op_of
from edgevlm.runtimes.executorch.ethos.quantise import adopt, call_flat, is_quantised, quantised
from edgevlm.runtimes.executorch.ethos.tosa import dequantise, quantise, signature

torch = pytest.importorskip("torch", reason="programs need: pip install 'edgevlm[torch]'")


@pytest.fixture(scope="module")
def programs():
    from micro.ethos import Block, Cut, export_to

    def make(kind, path):
        export_to(path, kind)
        return torch.export.load(path)

    return lambda folder: (make(Block, folder / "b.pt2"), make(Cut, folder / "c.pt2"))


SCALES = st.floats(2.0**-13, 10, width=32)
FLOATS = hnp.arrays("f4", 64, elements=st.floats(-200, 200, width=32))


@given(FLOATS, SCALES, st.integers(-128, 127), st.sampled_from(["int8", "int16"]))
def test_integers_are_those_of_quantized_decomposed(values, scale, zero_point, dtype):
    from micro.ethos import Q

    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    how = {"scale": scale, "zero_point": zero_point, "low": low, "high": high, "dtype": dtype}
    args = (scale, zero_point, low, high, getattr(torch, dtype))
    theirs = Q.quantize_per_tensor(torch.from_numpy(values), *args)
    ours = quantise(values, how)
    assert ours.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(ours, theirs.numpy())
    np.testing.assert_array_equal(
        dequantise(ours, how), Q.dequantize_per_tensor(theirs, *args).numpy()
    )


def test_a_program_says_whether_it_is_quantised(programs, tmp_path):
    block, cut = programs(tmp_path)
    assert not is_quantised(block) and is_quantised(cut)


def test_a_float_program_without_inputs_to_fit_is_refused(programs, tmp_path):
    with pytest.raises(JobFault, match="EV375") as told:
        quantised(programs(tmp_path)[0], None, [])
    assert "--calib" in told.value.fix


def test_an_adopted_program_computes_the_same(programs, tmp_path):
    from micro.ethos import inputs

    _, cut = programs(tmp_path)
    x = torch.from_numpy(inputs(1, 5)[0])
    before = call_flat(cut.module(), cut, [x])[0]
    adopt(cut)
    np.testing.assert_array_equal(call_flat(cut.module(), cut, [x])[0].numpy(), before.numpy())


def test_each_reader_gets_a_dequantize_and_each_product_a_mark(programs, tmp_path):
    _, cut = programs(tmp_path)
    shared = [n for n in cut.graph.nodes if op_of(n) == DEQUANTIZE and len(n.users) > 1]
    assert len(shared) == 1  # read by the scores and by the choice
    adopt(cut)
    marked = {op_of(node) for node in cut.graph.nodes if node.meta.get("custom")}
    assert marked == {"aten.linear.default", "aten.gather.default"}  # both are between integers
    for node in cut.graph.nodes:
        if (op_of(node) or "").startswith("quantized_decomposed.dequantize"):
            assert len(node.users) == 1, node
    counted = [op_of(node) for node in cut.graph.nodes]
    adopt(cut)  # twice changes nothing
    assert [op_of(node) for node in cut.graph.nodes] == counted
    assert counted.count(DEQUANTIZE) == counted.count(QUANTIZE) + 1


def test_inputs_are_arranged_as_the_program_takes_them():
    class Two(torch.nn.Module):
        def forward(self, feeds, *, more):
            return {"sum": feeds["a"] + feeds["b"] + more[0], "one": feeds["a"]}

    a, b, c = (torch.full((2,), float(i)) for i in range(3))
    program = torch.export.export(Two(), ({"a": a, "b": b},), {"more": (c,)})
    total, one = call_flat(program.module(), program, [a, b, c])
    assert total.tolist() == [3, 3] and one.tolist() == [0, 0]


def test_a_program_without_a_delegate_has_no_signature(programs, tmp_path):
    assert all(signature(program) is None for program in programs(tmp_path))


def test_ops_are_named_in_any_dialect(programs, tmp_path):
    names = {op_of(node) for node in programs(tmp_path)[1].graph.nodes}
    assert {
        None,
        QUANTIZE,
        DEQUANTIZE,
        "aten.topk.default",
        "aten.gather.default",
        "getitem",
    } <= names
