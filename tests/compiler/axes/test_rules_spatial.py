"""Pooling, resizing, padding and depth-to-space."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.rules import spatial
from edgevlm.compiler.errors import JobFault

GRID = {("x", 2), ("x", 3)}
HELD = {
    "AveragePool": GRID,
    "MaxPool": GRID,
    "LpPool": GRID,
    "Resize": GRID,
    "SpaceToDepth": GRID,  # folded: a pixel is no axis of its own there
    "DepthToSpace": {("x", 1)},
}


def build(new_net, op: str):
    net = new_net()
    x = net.input("x", 3, 12, 4, 6)
    match op:
        case "MaxPool":
            return net.build(*net(op, x, kernel_shape=[2, 2], strides=[2, 2], outputs=2))
        case "AveragePool" | "LpPool":
            return net.build(net(op, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        case "Resize":
            return net.build(
                net(op, x, None, None, net.ints(3, 12, 8, 3)),
                net(op, x, None, net.weight([1.0, 1.0, 2.0, 2.0]), mode="linear"),
                net(op, x, None, None, net.ints(5), axes=[3], mode="cubic"),
            )
        case "Pad":
            return net.build(net(op, x, net.ints(1, 0, 0, 2, 0, 0, 0, 3)))
        case "SpaceToDepth" | "DepthToSpace":
            return net.build(net(op, x, blocksize=2))
    return net.build(net(op, x))


@pytest.mark.parametrize("op", sorted(spatial.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, new_net, agrees):
    model = build(new_net, op)
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("op", sorted(spatial.RULES))
def test_every_axis_can_be_resized_unless_the_grid_holds_it(op, new_net, refused):
    assert refused(build(new_net, op)) == HELD.get(op, set())


@pytest.mark.parametrize("op", sorted(spatial.RULES))
def test_the_batch_is_gathered(op, new_net, resized, feeds_of, run):
    model, keep = build(new_net, op), [0, 2]
    small, feeds = resized(model, "x", 0, 2, keep), feeds_of(model)
    whole, part = run(model, feeds), run(small, {"x": feeds["x"][keep]})
    rows = [0, *(k + 1 for k in keep)] if op == "Pad" else keep
    for name, array in whole.items():
        if array.dtype != np.int64:  # MaxPool's indices count through the whole batch
            np.testing.assert_allclose(part[name], array[rows], rtol=1e-5)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_folds_the_right_channels(mode, new_net, run):
    """Dropping one depth channel drops its plane, and the block axes cannot change."""
    net = new_net()
    model = net.build(y=net("DepthToSpace", net.input("x", 1, 12, 2, 2), blocksize=2, mode=mode))
    found = analyse(model.graph)
    axes = found.of(model.graph.inputs[0])[1]
    atoms = [axis for part in parts_of(axes) for axis in part]
    depth = next(axis for axis in atoms if axis.size == 3)
    x = np.arange(48, dtype=np.float32).reshape(1, 12, 2, 2)
    whole, keep = run(model, {"x": x})["y"], [0, 2]
    for block in (axis for axis in atoms if axis is not depth):
        with pytest.raises(JobFault, match="is a block of pixels"):
            resize(found, (block,), 1)
    resize(found, (depth,), 2, keep)
    split = (3, 2, 2) if mode == "CRD" else (2, 2, 3)
    less = np.take(x.reshape(1, *split, 2, 2), keep, axis=1 + split.index(3))
    got = run(model, {"x": less.reshape(1, 8, 2, 2)})["y"]
    np.testing.assert_array_equal(got, whole[:, keep])


def test_space_to_depth_refuses_to_drop_pixels_and_names_the_node(new_net, resized):
    net = new_net()
    model = net.build(net("SpaceToDepth", net.input("x", 1, 3, 4, 4), blocksize=2, name="shuffle"))
    with pytest.raises(JobFault, match="is folded into") as caught:
        resized(model, "x", 2, 2, [0, 1])
    assert caught.value.code == "EV211" and "shuffle" in caught.value.what


def test_space_to_depth_keeps_whole_rows_of_blocks(new_net, run):
    net, keep = new_net(), [0, 2]
    model = net.build(y=net("SpaceToDepth", net.input("x", 1, 3, 6, 4), blocksize=2))
    found = analyse(model.graph)
    x = np.arange(72, dtype=np.float32).reshape(1, 3, 6, 4)
    whole = run(model, {"x": x})["y"]
    resize(found, found.of(model.graph.outputs[0])[2], 2, keep)
    less = x.reshape(1, 3, 3, 2, 4)[:, :, keep].reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(run(model, {"x": less})["y"], whole[:, :, keep])


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool", "LpPool"])
def test_a_pool_pins_its_grid_on_both_sides(op, new_net, resized):
    net = new_net()
    y = net(op, net.input("x", 1, 3, 8, 8), kernel_shape=[2, 1], strides=[2, 1], name="pool")
    model = net.build(y)
    for name in ("x", "pool"):
        with pytest.raises(JobFault, match="a window slides over it") as caught:
            resized(model, name, 2, 3, [0, 1, 2])
        assert caught.value.code == "EV211" and "pool" in caught.value.what
    assert list(resized(model, "pool", 3, 3).graph.inputs[0].shape) == [1, 3, 8, 3]


def test_an_interpolated_axis_is_pinned_on_both_sides(new_net, resized, value_of):
    net = new_net()
    y = net("Resize", net.input("x", 2, 3, 4, 4), None, None, net.ints(2, 3, 8, 4), name="zoom")
    model = net.build(y)
    for name in ("x", "zoom"):
        with pytest.raises(JobFault, match="interpolates along it") as caught:
            resized(model, name, 2, 2)
        assert caught.value.code == "EV211" and "zoom" in caught.value.what
    small = resized(model, "x", 1, 2)
    assert value_of(small, "zoom").producer().inputs[3].const_value.numpy().tolist() == [2, 2, 8, 4]


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_padding_that_repeats_the_edge_pins_what_it_repeats(mode, new_net, resized):
    net = new_net()
    y = net(
        "Pad", net.input("x", 2, 5), net.ints(2, 1), None, net.ints(1), mode=mode, name="mirror"
    )
    model = net.build(y)
    with pytest.raises(JobFault, match="repeats elements of it") as caught:
        resized(model, "x", 1, 4)
    assert caught.value.code == "EV211" and "mirror" in caught.value.what
    assert list(resized(model, "x", 0, 1).graph.outputs[0].shape) == [1, 8]


def test_padding_is_an_axis_that_can_be_resized(new_net, agrees, run):
    net = new_net()
    y = net("Pad", net.input("x", 2, 5), net.ints(0, 3, 0, 2))
    model = net.build(y=y)
    found = analyse(model.graph)
    before, inside, after = parts_of(found.of(y)[1])
    assert (before[0].size, inside[0].size, after[0].size) == (3, 5, 2)
    assert resize(found, before, 1) == ["Pad_0: Pad [0, 3, 0, 2] -> [0, 1, 0, 2]"]
    agrees(model, found)
    got = run(model, {"x": np.ones((2, 5), np.float32)})["y"]
    assert got[0].tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


def test_negative_padding_is_refused_with_the_node(new_net):
    net = new_net()
    y = net("Pad", net.input("x", 5), net.ints(-1, 0), name="crop")
    with pytest.raises(JobFault, match="write it as a Slice") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "crop" in caught.value.what
