"""Elementwise rules: dimensions that meet are one axis, judged by ONNX Runtime op by op."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.rules import elementwise
from edgevlm.compiler.errors import JobFault

BOOLEAN = {"And", "Or", "Xor"}
BITS = {"BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"}


def unary(net, op: str):
    dtype = "BOOL" if op == "Not" else "INT32" if op in BITS else "FLOAT"
    x = net.input("x", 2, 3, 4, dtype=dtype)
    match op:
        case "Cast":
            return net(op, x, to=7)
        case "CastLike":  # the other input is a type: its shape says nothing
            return net(op, x, net.input("like", 5, dtype="INT64"))
        case "Clip":
            return net(op, x, net.weight(np.float32(-0.5)), net.weight(np.float32(0.5)))
        case "Dropout":
            return net(op, x, outputs=2)[0]
    return net(op, x)


def broadcast(net, op: str):
    """[2,1,4] op [3,4]: the last dimension meets, the others stretch."""
    dtype = "BOOL" if op in BOOLEAN else "INT32" if op in BITS else "FLOAT"
    if op == "BitShift":
        a, b = net.input("a", 2, 1, 4, dtype="UINT32"), net.input("b", 3, 4, dtype="UINT32")
        return net(op, a, b, direction="LEFT")
    if op == "PRelu":  # one way only: the slope stretches to x
        return net(op, net.input("x", 2, 3, 4), net.input("slope", 3, 4))
    a, b = net.input("a", 2, 1, 4, dtype=dtype), net.input("b", 3, 4, dtype=dtype)
    match op:
        case "Where":
            return net(op, net.input("c", 3, 1, dtype="BOOL"), a, b)
        case "Mod":
            return net(op, a, b, fmod=1)
        case "Sum" | "Mean" | "Max" | "Min":
            return net(op, a, b, net.input("c", 4))
    return net(op, a, b)


def special(net, op: str):
    x = net.input("x", 2, 3, 4)
    match op:
        case "CumSum":
            return net(op, x, net.weight(np.int64(1)))
        case "Trilu":
            return net(op, x, net.weight(np.int64(0)))
        case "QuantizeLinear":
            return net(op, x, net.weight(np.full(3, 0.1)), net.weight(np.zeros(3, np.int8)), axis=1)
        case "DequantizeLinear":
            x = net.input("q", 2, 3, 4, dtype="INT8")
            return net(op, x, net.weight(np.full(4, 0.1)), axis=-1)
        case "BatchNormalization":
            return net(op, x, *(net.weight(np.full(3, 1.5)) for _ in range(4)))
    raise KeyError(op)


def build(new_net, op: str):
    net = new_net(24 if op == "Swish" else 23)
    if op in elementwise.UNARY:
        return net.build(unary(net, op))
    if op in elementwise.BROADCAST:
        return net.build(broadcast(net, op))
    return net.build(special(net, op))


@pytest.mark.parametrize("op", sorted(elementwise.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, new_net, agrees):
    model = build(new_net, op)
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("op", sorted(elementwise.RULES))
def test_every_axis_can_be_resized(op, new_net, refused):
    assert refused(build(new_net, op)) == set()


@pytest.mark.parametrize("op", sorted(elementwise.UNARY + elementwise.BROADCAST))
def test_the_op_on_gathered_inputs_is_its_gathered_output(op, new_net, feeds_of, run, resized):
    """The last dimension of every full-rank input is one axis; two of its four elements stay."""
    model = build(new_net, op)
    first = next(v for v in model.graph.inputs if v.shape[-1] == 4)
    feeds, keep = feeds_of(model), [1, 3]
    small = resized(model, first.name, len(first.shape) - 1, 2, keep)
    less = {k: v[..., keep] if v.shape[-1] == 4 else v for k, v in feeds.items()}
    (whole,), (part,) = run(model, feeds).values(), run(small, less).values()
    np.testing.assert_array_equal(part, whole[..., keep])


def test_a_stretched_dimension_belongs_to_the_one_that_has_it(new_net, resized, feeds_of, run):
    net = new_net()
    a, b = net.input("a", 2, 1, 4), net.input("b", 3, 4)
    model = net.build(y=net("Add", a, b))
    small = resized(model, "b", 0, 2, [0, 2])
    feeds = feeds_of(model)
    expected = feeds["a"] + feeds["b"][[0, 2]]
    np.testing.assert_allclose(run(small, feeds | {"b": feeds["b"][[0, 2]]})["y"], expected)


@pytest.mark.parametrize("op", ["DequantizeLinear", "QuantizeLinear"])
def test_per_axis_scales_and_zero_points_are_cut_with_their_axis(op, new_net, run, resized, rng):
    net = new_net()
    keep = [0, 2, 3]
    scale, zero = rng.uniform(0.5, 1, 4).astype(np.float32), np.array([1, -2, 3, 4], np.int8)
    dtype = "INT8" if op == "DequantizeLinear" else "FLOAT"
    x = net.input("x", 2, 4, dtype=dtype)
    model = net.build(y=net(op, x, net.weight(scale), net.weight(zero), axis=1))
    small = resized(model, "x", 1, 3, keep)
    data = (rng.normal(size=(2, 4)) * 10).astype(x.dtype.numpy())
    expected = run(model, {"x": data})["y"][:, keep]
    np.testing.assert_array_equal(run(small, {"x": data[:, keep]})["y"], expected)


def test_blocked_scales_pin_the_axis_they_block_and_share_the_other(new_net, resized, value_of):
    net = new_net()
    x = net.input("x", 6, 8, dtype="INT8")
    scale = net.input("scale", 6, 2)
    model = net.build(net("DequantizeLinear", x, scale, axis=1, block_size=4, name="blocks"))
    small = resized(model, "x", 0, 3)
    assert list(value_of(small, "scale").shape) == [3, 2]
    for name in ("x", "scale"):
        with pytest.raises(JobFault, match="scaled in blocks of 4") as caught:
            resized(model, name, 1, 1)
        assert caught.value.code == "EV211" and "blocks" in caught.value.what


def test_a_scale_of_one_element_is_not_an_axis(new_net, agrees, value_of):
    net = new_net()
    x = net.input("x", 2, 4, dtype="INT8")
    model = net.build(net("DequantizeLinear", x, net.weight(np.ones(1)), axis=1))
    found = analyse(model.graph)
    resize(found, found.of(value_of(model, "x"))[0], 1)
    agrees(model, found)


def test_the_parameters_of_batch_normalisation_are_cut(new_net, resized, feeds_of, run, rng):
    net, keep = new_net(), [0, 2]
    x = net.input("x", 2, 3, 4)
    model = net.build(
        y=net("BatchNormalization", x, *(net.weight(rng.uniform(1, 2, 3)) for _ in range(4)))
    )
    small, feeds = resized(model, "x", 1, 2, keep), feeds_of(model)
    expected = run(model, feeds)["y"][:, keep]
    np.testing.assert_array_equal(run(small, {"x": feeds["x"][:, keep]})["y"], expected)


def test_dimensions_that_do_not_broadcast_are_refused_with_the_node(new_net):
    net = new_net()
    a, b = net.input("a", 2, 3), net.input("b", 4)
    y = net("Add", a, b, name="impossible")
    y.shape = None
    with pytest.raises(JobFault, match=r"of 3 .* and 4 .* elements meet") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "impossible" in caught.value.what
