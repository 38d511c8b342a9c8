"""What is not known is told with its op, its name and its function, and is never guessed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

import torch

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram
from edgevlm.runtimes.coreml.ops import OPS
from edgevlm.runtimes.coreml.ops.forms import Refused

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
PLACES = np.array([0, 2], np.int32)


def fault(run) -> JobFault:
    with pytest.raises(JobFault) as caught:
        run()
    assert all(caught.value.lines())
    return caught.value


def test_an_unknown_op_is_refused_when_the_program_is_opened(emit):
    def build(mb, x):
        y = mb.local_response_norm(x=x, size=3, name="who_knows")
        return mb.relu(x=y)

    program = MilProgram(emit(build, {"x": X}))
    told = fault(program.check)
    assert told.code == "EV303" and told.exit_status == 1
    assert "local_response_norm" in told.what and "who_knows" in told.what
    assert "function main" in told.what
    assert fault(lambda: program.call("main", {"x": X})).code == "EV303"


def test_ops_with_blocks_of_ops_are_refused(emit):
    def build(mb, x, n):
        flag = mb.cast(x=mb.squeeze(x=n), dtype="bool")
        return mb.cond(pred=flag, _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.abs(x=x))

    program = MilProgram(emit(build, {"x": X, "n": np.array([1], np.int32)}))
    assert "op cond" in fault(program.check).what


def test_random_numbers_are_refused(emit):
    def build(mb, x):
        return mb.add(x=x, y=mb.random_uniform(shape=[2, 3, 4]))

    assert "op random_uniform" in fault(MilProgram(emit(build, {"x": X})).check).what


def gather(mb, x, i):
    return mb.gather(x=x, indices=i, axis=1, name="pick")


@pytest.mark.parametrize("places", [[0, 3], [-1, 0]])
def test_a_place_that_core_ml_leaves_undefined(emit, places):
    program = MilProgram(emit(gather, {"x": X, "i": PLACES}))
    told = fault(lambda: program.call("main", {"x": X, "i": np.array(places, np.int32)}))
    assert told.code == "EV307" and "pick" in told.what and "undefined" in told.why


def test_a_cast_of_what_is_no_integer(emit):
    program = MilProgram(emit(lambda mb, x: mb.cast(x=x, dtype="int32"), {"x": X}))
    for bad in (np.nan, np.inf, 3e9):
        told = fault(lambda bad=bad: program.call("main", {"x": np.full_like(X, bad)}))
        assert told.code == "EV307" and "cast" in told.what


def test_an_integer_that_does_not_fit(emit):
    program = MilProgram(emit(lambda mb, x: mb.cast(x=x, dtype="int8"), {"x": X}))
    assert program.call("main", {"x": X})["out0"].max() == 23
    told = fault(lambda: program.call("main", {"x": X * 100}))
    assert told.code == "EV307" and "0 to 2300 in int8[2,3,4]" in told.why


@pytest.mark.parametrize(
    ("feeds", "why"),
    [
        ({}, "its inputs are ['i', 'x'], not []"),
        ({"x": X}, "not ['x']"),
        ({"x": X, "i": PLACES, "z": X}, "not ['i', 'x', 'z']"),
        ({"x": X[0], "i": PLACES}, "input x is fp32[2,3,4], not float32[3, 4]"),
        ({"x": X, "i": np.array([0.0, 1.0])}, "input i is int32[2], not float64[2]"),
        ({"x": X.astype(np.int32), "i": PLACES}, "not int32[2, 3, 4]"),
    ],
)
def test_feeds_that_do_not_fit(emit, feeds, why):
    program = MilProgram(emit(gather, {"x": X, "i": PLACES}))
    told = fault(lambda: program.call("main", feeds))
    assert told.code == "EV307" and why in told.why


def test_a_function_that_is_not_there(emit):
    program = MilProgram(emit(gather, {"x": X, "i": PLACES}))
    assert "it has main" in fault(lambda: program.call("decode", {})).why


T = torch.arange(24.0).reshape(2, 3, 4)
INT = T.int()


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("real_div", (INT, INT + 1)),
        ("reduce_mean", (INT,)),
        ("gelu", (T, "FAST")),
        ("cast", (T, "int64")),
        ("pad", (T, (1, 1), "wrap")),
        ("pad", (T, (4, 0), "reflect")),
        ("tile", (T, (2, 2))),
        ("tile", (T, (2**20, 2**20, 2**20))),
        ("fill", ((2**20, 2**20),)),
        ("range_1d", (torch.tensor(1.0), torch.tensor(0.0), torch.tensor(0.0))),
        ("range_1d", (torch.tensor(1e12), torch.tensor(0.0), torch.tensor(1.0))),
        ("split", (T, 1, 2)),
        ("topk", (T, 9)),
        ("slice_by_index", (T, (0,), (1,))),
        ("slice_by_index", (T, (0, 0, 0), (1, 1, 1), (0, 1, 1))),
        ("slice_update", (T, T, (0, 0, 0), (1, 1, 1))),
        ("gather", (T, INT[0, 0], 1, 2)),
        ("conv", (T, T, None, None, "somehow")),
        ("conv_transpose", (T, T, None, None, (1, 2, 3))),
        ("max_pool", (T, (2,), "custom", None, (0, 1), True)),
        ("resize_bilinear", (T, 2, 2, "CORNERS")),
        ("resize_nearest_neighbor", (T, 4, 4)),
        ("upsample_bilinear", (T, 2.0, 2.0, True, True)),
        ("quantize", (T, torch.tensor(1.0), "int4")),
        ("quantize", (T, torch.ones(3), "int8", None, 2)),
        ("constexpr_blockwise_shift_scale", (INT, torch.ones(2, 2, 1))),
        ("constexpr_sparse_to_dense", (torch.ones(3), torch.ones(2, 2).int())),
        ("constexpr_lut_to_dense", (INT, torch.ones(1, 1, 1, 32, 2))),
        ("scatter_along_axis", (T, INT[:, :1].long() * 0, T[:, :1], 1, "xor")),
    ],
)
def test_a_form_that_is_not_computed(op, arguments):
    with pytest.raises(Refused):
        OPS[op](*arguments)
