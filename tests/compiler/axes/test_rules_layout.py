"""Layout rules: elements move, axes are factored, permuted and joined."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.rules import layout
from edgevlm.compiler.errors import JobFault

#: dimensions of x that these cases cannot resize: they are folded into a product
FOLDED = {"Reshape": {("x", 2)}}


def build(new_net, op: str):
    net = new_net()
    x = net.input("x", 3, 1, 6)
    match op:
        case "Reshape":
            return net.build(net(op, x, net.ints(0, 2, -1)))
        case "Flatten":
            return net.build(net(op, x, axis=2))
        case "Transpose":
            return net.build(net(op, x, perm=[2, 0, 1]))
        case "Squeeze":
            return net.build(net(op, x, net.ints(-2)), net(op, x))
        case "Unsqueeze":
            return net.build(net(op, x, net.ints(-1, 1)))
        case "Expand":
            return net.build(net(op, x, net.ints(4, 3, 5, 6)))
        case "Concat":
            return net.build(net(op, x, net.input("y", 3, 4, 6), axis=1))
        case "Tile":
            return net.build(net(op, x, net.ints(1, 3, 2)))
    raise KeyError(op)


@pytest.mark.parametrize("op", sorted(layout.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, new_net, agrees):
    model = build(new_net, op)
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("op", sorted(layout.RULES))
def test_every_axis_can_be_resized_unless_it_is_folded(op, new_net, refused):
    assert refused(build(new_net, op)) == FOLDED.get(op, set())


@pytest.mark.parametrize("allowzero", [0, 1])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((2, 6, 4), (2, 24)),
        ((2, 24), (2, 6, 4)),
        ((4, 6), (2, 12)),
        ((3, 4, 5), (12, 5)),
        ((2, 1, 6), (1, 2, 3, 1, 2)),
        ((6,), (6, 1)),
        ((1, 1), (1,)),
        ((2, 9, 4), (6, 3, 4)),
    ],
)
def test_reshapes(source, target, allowzero, new_net, agrees):
    net = new_net()
    model = net.build(
        net("Reshape", net.input("x", *source), net.ints(*target), allowzero=allowzero)
    )
    agrees(model, analyse(model.graph))


def test_wildcards_stay_where_they_still_hold(new_net, resized, value_of):
    net = new_net()
    y = net("Reshape", net.input("x", 2, 6, 4), net.ints(0, -1, name="target"))
    small = resized(net.build(y), "x", 1, 3)
    assert small.graph.initializers["target"].const_value.numpy().tolist() == [0, -1]
    assert list(small.graph.outputs[0].shape) == [2, 12]


def test_a_wildcard_that_would_mean_something_else_is_written_out(new_net, resized):
    net = new_net()
    y = net("Reshape", net.input("x", 6, 4), net.ints(2, -1, 4))
    model = net.build(y)
    found = analyse(model.graph)
    outer, _ = expand(found.of(model.graph.inputs[0])[0])
    assert resize(found, (outer,), 1) == ["Reshape_0: Reshape [2, -1, 4] -> [1, 3, 4]"]
    assert y.producer().inputs[1].const_value.numpy().tolist() == [1, 3, 4]


def test_a_reshape_that_straddles_two_axes_is_refused_with_the_node(new_net):
    net = new_net()
    y = net("Reshape", net.input("x", 4, 6), net.ints(6, 4), name="straddle")
    with pytest.raises(JobFault, match="into another axis") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "straddle" in caught.value.what


def test_the_same_axis_twice_is_factored_once(new_net, agrees, value_of):
    """x x^T flattened: [4,4] -> [2,8] cuts both dimensions, for they are one axis."""
    net = new_net()
    x = net.input("x", 4, 3)
    gram = net("MatMul", x, net("Transpose", x, perm=[1, 0]))
    both = net("Add", gram, net("Transpose", gram, perm=[1, 0]))
    model = net.build(net("Reshape", both, net.ints(2, 8)))
    found = analyse(model.graph)
    outer, _ = expand(found.of(value_of(model, "x"))[0])
    resize(found, (outer,), 3)
    agrees(model, found)


def test_concat_does_not_stretch(new_net):
    net = new_net()
    y = net("Concat", net.input("x", 1, 2), net.input("z", 3, 2), axis=1, name="join")
    y.shape = None
    with pytest.raises(JobFault, match="differ in dimension 0") as caught:
        analyse(net.build(y).graph)
    assert "join" in caught.value.what


def test_a_squeeze_without_axes_refuses_what_would_change_its_rank(new_net, resized):
    net = new_net()
    y = net("Squeeze", net.input("x", 1, 3, 4), name="implicit")
    model = net.build(net("Add", y, net.input("z", 3, 4)))
    with pytest.raises(JobFault, match="would drop a dimension of size 1") as caught:
        resized(model, "x", 1, 1)
    assert caught.value.code == "EV211" and "implicit" in caught.value.what
    assert list(resized(model, "x", 1, 2).graph.outputs[0].shape) == [2, 4]


@pytest.mark.parametrize(
    ("op", "shape", "dim", "size"),
    [("Expand", (5, 1, 4), 0, 3), ("Tile", (5, 1, 1), 0, 3), ("Expand", (1, 7, 1), 1, 2)],
)
def test_copies_are_an_axis_that_can_be_resized(op, shape, dim, size, new_net, value_of, agrees):
    net = new_net()
    y = net(op, net.input("x", 1, 1, 4), net.ints(*shape))
    model = net.build(y)
    found = analyse(model.graph)
    resize(found, found.of(y)[dim], size)
    agrees(model, found)
    assert y.shape[dim] == size


def test_an_expand_of_ones_is_left_alone(new_net, resized):
    net = new_net()
    y = net("Expand", net.input("x", 2, 6), net.ints(1, 1, name="shape"))
    small = resized(net.build(y), "x", 1, 3)
    assert small.graph.initializers["shape"].const_value.numpy().tolist() == [1, 1]


def test_space_to_depth_written_out_moves_the_right_elements(new_net, resized, run):
    """[1,N,D] -> [1,4,2,4,2,D] -> ...: a row of blocks can go, one image token cannot."""
    net = new_net()
    x = net.input("x", 1, 4, 2, 4, 2, 3)
    turned = net("Transpose", x, perm=[0, 1, 3, 2, 4, 5])
    model = net.build(y=net("Reshape", turned, net.ints(1, 16, 12)))
    keep = [0, 3]
    small = resized(model, "x", 1, 2, keep)
    data = np.arange(192, dtype=np.float32).reshape(1, 4, 2, 4, 2, 3)
    whole, part = run(model, {"x": data})["y"], run(small, {"x": data[:, keep]})["y"]
    np.testing.assert_array_equal(part, whole.reshape(1, 4, 4, 12)[:, keep].reshape(1, 8, 12))
