"""The contract of `resize`: what `keep` may be, what is refused, shared and left alone."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.axes import analyse, carries, resize, single
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.errors import JobFault


@pytest.fixture
def scaled(new_net):
    """x [2,6] * scale [6]"""
    net = new_net()
    y = net("Mul", net.input("x", 2, 6), net.weight(np.arange(6.0), "scale"), name="multiply")
    return net.build(y=y)


@pytest.mark.parametrize(
    ("size", "keep", "why"),
    [
        (3, [0, 2, 1], "not strictly ascending"),
        (3, [0, 1, 1], "not strictly ascending"),
        (3, [0, 1], "has 2 indices for 3"),
        (3, [0, 1, 6], "reaches from 0 to 6"),
        (3, [-1, 0, 1], "reaches from -1 to 1"),
        (3, [0.0, 1.0, 2.0], "not a list of indices"),
        (6, [True, True, False, False, True, False], "not a list of indices"),
        (3, [[0], [1], [2]], "not a list of indices"),
        (3, np.array([2, 1, 0], np.uint8), "not strictly ascending"),
        (6, [5, 4, 3, 2, 1, 0], "not strictly ascending"),
        (0, [], "not a list of indices"),
        (0, None, "cannot have 0 elements"),
        (-1, None, "cannot have -1 elements"),
        (7, [0, 1, 2, 3, 4, 5, 6], "reaches from 0 to 6"),
    ],
)
def test_keep_is_strictly_ascending_or_it_is_refused(scaled, resized, size, keep, why):
    with pytest.raises(JobFault, match=why) as caught:
        resized(scaled, "x", 1, size, keep)
    assert caught.value.code == "EV211" and "x" in caught.value.what


@pytest.mark.parametrize("keep", [[1, 3, 4], (1, 3, 4), np.array([1, 3, 4], np.int32), range(1, 4)])
def test_keep_is_any_sequence_of_integers(scaled, resized, run, keep):
    small = resized(scaled, "x", 1, 3, keep)
    (kept,) = small.graph.initializers.values()
    np.testing.assert_array_equal(kept.const_value.numpy(), np.array(keep, np.float32))


def test_a_stored_tensor_needs_keep_and_is_named(scaled, resized):
    for size in (3, 9):
        with pytest.raises(JobFault, match="must be known when compiling") as caught:
            resized(scaled, "x", 1, size)
        assert caught.value.code == "EV211"
        assert "scale" in caught.value.what and "multiply" in caught.value.why


def test_the_same_size_changes_nothing(scaled):
    before = ir.to_proto(scaled).SerializeToString(deterministic=True)
    found = analyse(scaled.graph)
    for keep in (None, range(6)):
        assert resize(found, found.of(scaled.graph.inputs[0])[1], 6, keep) == []
    assert ir.to_proto(scaled).SerializeToString(deterministic=True) == before


def test_what_is_refused_is_left_as_it_was(new_net, agrees):
    """Two initializers lie along the axis, then a TopK that cannot follow: nothing is half done."""
    net = new_net()
    x = net("Mul", net.input("x", 6), net.weight(np.ones(6)))
    best, _ = net("TopK", net("Add", x, net.weight(np.ones(6))), net.ints(4), outputs=2)
    model = net.build(best)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    found = analyse(model.graph)
    for keep in ([0, 1, 2], None):
        with pytest.raises(JobFault):
            resize(found, found.of(model.graph.inputs[0])[0], 3, keep)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    agrees(model, found)


def test_one_analysis_serves_many_edits(new_net, run, agrees):
    net = new_net()
    x = net("Mul", net.input("x", 8, 6), net.weight(np.arange(6.0)))
    model = net.build(y=net("Reshape", x, net.ints(48)))
    found = analyse(model.graph)
    rows, columns = found.of(x)
    resize(found, columns, 4, [0, 2, 3, 5])
    resize(found, rows, 5)
    resize(found, columns, 2, [1, 3])
    agrees(model, found)
    got = run(model, {"x": np.ones((5, 2), np.float32)})["y"]
    assert got.tolist() == [2, 5] * 5


def test_the_log_says_what_was_rewritten(new_net):
    net = new_net()
    scaled = net("Mul", net.input("x", 2, 6), net.weight(np.arange(6.0), "scale"), name="mul")
    flat = net("Reshape", scaled, net.ints(12, name="shape"), name="flat")
    model = net.build(flat)
    found = analyse(model.graph)
    assert resize(found, found.of(scaled)[1], 2, [0, 1]) == [
        "mul: scale [6] -> [2]",
        "flat: Reshape [12] -> [4]",
    ]
    assert list(model.graph.initializers) == ["scale~1", "shape~1"]
    resize(found, found.of(scaled)[1], 1, [0])
    assert list(model.graph.initializers) == ["scale~2", "shape~2"]


def test_a_weight_two_layers_share_is_cut_for_one_of_them(new_net, resized, run):
    net = new_net()
    shared = net.weight(np.arange(6.0), "shared")
    a = net("Mul", net.input("x", 6), shared)
    b = net("Mul", net.input("y", 6), shared)
    small = resized(net.build(a=a, b=b), "x", 0, 2, [1, 5])
    assert set(small.graph.initializers) == {"shared", "shared~1"}
    got = run(small, {"x": np.ones(2, np.float32), "y": np.ones(6, np.float32)})
    assert got["a"].tolist() == [1, 5] and got["b"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_constant_that_many_layers_share_stays_shared(new_net, resized):
    """32 layers read one causal mask; cutting it must not make 32 of it."""
    net = new_net()
    x, mask, shape = net.input("x", 4, 4), net.weight(np.tri(4), "mask"), net.ints(16, name="flat")
    outs = []
    for _ in range(8):
        x = net("Mul", x, mask)
        outs.append(net("Reshape", x, shape))
    small = resized(net.build(*outs, x), "x", 0, 3, [0, 1, 2])
    assert set(small.graph.initializers) == {"mask~1", "flat~1"}


def test_a_weight_two_layers_cut_differently_becomes_two(new_net, resized, run):
    """The same square matrix: one layer reads its rows along the axis, the other its columns."""
    net, keep = new_net(), [0, 2]
    w = np.arange(9, dtype=np.float32).reshape(3, 3)
    shared = net.weight(w, "shared")
    x = net.input("x", 1, 3)
    model = net.build(
        rows=net("MatMul", x, shared), columns=net("MatMul", net.input("z", 1, 3), shared)
    )
    found = analyse(model.graph)
    columns = model.graph.outputs[1]
    resize(found, found.of(x)[1], 2, keep)
    resize(found, found.of(columns)[1], 2, keep)
    got = run(model, {"x": np.ones((1, 2), np.float32), "z": np.ones((1, 3), np.float32)})
    np.testing.assert_array_equal(got["rows"][0], w[keep].sum(0))
    np.testing.assert_array_equal(got["columns"][0], w[:, keep].sum(0))
    assert set(model.graph.initializers) == {"shared~1", "shared~2"}


def test_an_initializer_that_is_a_result_too_keeps_its_value(new_net, resized, run):
    net = new_net()
    w = net.weight(np.arange(4.0), "w")
    small = resized(net.build(w, y=net("Add", net.input("x", 4), w)), "x", 0, 2, [1, 2])
    got = run(small, {"x": np.zeros(2, np.float32)})
    assert got["w"].tolist() == [0, 1, 2, 3] and got["y"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "dtype",
    [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8,
     np.uint8, ml_dtypes.int4, ml_dtypes.uint4, np.int64, np.bool_],
)  # fmt: skip
def test_cutting_keeps_the_type_to_the_bit(dtype, new_net):
    net = new_net()
    array = np.arange(12).reshape(2, 6).astype(dtype)
    tensor = ir.tensor(array, name="w")
    w = net.weight(np.zeros((2, 6), np.float32), "w")
    w.const_value, w.dtype = tensor, tensor.dtype
    x = net.input("x", 2, 6)
    x.dtype = tensor.dtype
    model = net.build(net("Equal", x, w))
    found = analyse(model.graph)
    resize(found, found.of(x)[1], 3, [0, 2, 5])
    (kept,) = model.graph.initializers.values()
    assert kept.dtype == kept.const_value.dtype == tensor.dtype
    np.testing.assert_array_equal(kept.const_value.numpy(), array[:, [0, 2, 5]])


def test_single_names_what_it_was_given(new_net, value_of):
    net = new_net()
    folded = net("Reshape", net.input("x", 4, 6), net.ints(24), name="fold")
    joined = net("Concat", folded, net.input("y", 8), axis=0, name="join")
    found = analyse(net.build(joined).graph)
    with pytest.raises(JobFault, match="folded into") as caught:
        single(found.of(folded)[0], "my pass")
    assert "my pass" in caught.value.what
    with pytest.raises(JobFault, match="name the part"):
        single(found.of(joined)[0], "my pass")
    with pytest.raises(JobFault, match="has no axis"):
        single((), "my pass")
    assert single(found.of(value_of(found, "y"))[0], "my pass").size == 8


@pytest.mark.parametrize(("value", "why"), [("fold", "folded into"), ("join", "name the part")])
def test_resize_names_the_node_that_folded_or_joined(value, why, new_net, resized):
    net = new_net()
    folded = net("Reshape", net.input("x", 4, 6), net.ints(24), name="fold")
    model = net.build(net("Concat", folded, net.input("y", 8), axis=0, name="join"))
    with pytest.raises(JobFault, match=why) as caught:
        resized(model, value, 0, 3)
    assert caught.value.code == "EV211" and value in caught.value.what


def test_carries_looks_into_products_and_sums(new_net, value_of):
    net = new_net()
    x, y = net.input("x", 4, 6), net.input("y", 8)
    joined = net("Concat", net("Reshape", x, net.ints(24)), y, axis=0)
    found = analyse(net.build(joined).graph)
    (four,), (six,) = found.of(x)
    for axis in (four, six, expand(found.of(y)[0])[0]):
        assert carries(found.of(joined)[0], axis)
    assert not carries(found.of(x)[0], six) and not carries((), four)


def test_an_unknown_value_is_named(new_net):
    net = new_net()
    found = analyse(net.build(net("Relu", net.input("x", 3))).graph)
    with pytest.raises(JobFault, match="never saw this value") as caught:
        found.of(ir.Value(name="stranger"))
    assert caught.value.code == "EV211" and "stranger" in caught.value.what
