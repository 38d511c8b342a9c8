"""MatMul, Gemm and convolutions: a shared axis vanishes, windows pin what they slide over."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.rules import contraction
from edgevlm.compiler.errors import JobFault

SPATIAL = {("x", 2), ("x", 3)}
PINNED = {"Conv": SPATIAL, "ConvTranspose": SPATIAL}


def build(new_net, op: str, rng):
    net = new_net()
    match op:
        case "MatMul":
            x, y = net.input("x", 2, 3, 4), net.input("y", 4, 5)
            return net.build(net(op, x, y), net(op, x, net.weight(rng.normal(size=(2, 4, 3)))))
        case "Gemm":
            x, bias = net.input("x", 4, 3), net.weight(rng.normal(size=5))
            w = net.weight(rng.normal(size=(5, 4)))
            return net.build(net(op, x, w, bias, transA=1, transB=1))
        case "Conv":
            x, w = net.input("x", 2, 3, 8, 8), net.weight(rng.normal(size=(5, 3, 3, 3)))
            bias = net.weight(rng.normal(size=5))
            return net.build(net(op, x, w, bias, strides=[2, 2], pads=[1, 1, 1, 1]))
        case "ConvTranspose":
            x, w = net.input("x", 2, 3, 4, 4), net.weight(rng.normal(size=(3, 5, 2, 2)))
            return net.build(net(op, x, w, net.weight(rng.normal(size=5)), strides=[2, 2]))
    raise KeyError(op)


@pytest.mark.parametrize("op", sorted(contraction.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, new_net, agrees, rng):
    model = build(new_net, op, rng)
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("op", sorted(contraction.RULES))
def test_every_axis_can_be_resized_unless_a_window_slides_over_it(op, new_net, refused, rng):
    assert refused(build(new_net, op, rng)) == PINNED.get(op, set())


@pytest.mark.parametrize(
    ("a", "b"),
    [((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((6, 1, 3, 4), (2, 4, 5)), ((4,), (2, 4, 5))],
)
def test_matmul_of_any_rank(a, b, new_net, agrees):
    net = new_net()
    model = net.build(net("MatMul", net.input("a", *a), net.input("b", *b)))
    agrees(model, analyse(model.graph))


def test_an_axis_of_zeros_vanishes_without_a_trace(new_net, resized, feeds_of, run, rng):
    """Contracting over fewer elements changes nothing if the dropped ones were zero."""
    net, keep = new_net(), [0, 2, 3]
    w = rng.normal(size=(5, 4))
    w[[1, 4]] = 0
    model = net.build(y=net("MatMul", net.input("x", 3, 5), net.weight(w, "w")))
    small, feeds = resized(model, "x", 1, 3, keep), feeds_of(model)
    expected = run(model, feeds)["y"]
    np.testing.assert_allclose(run(small, {"x": feeds["x"][:, keep]})["y"], expected, rtol=1e-5)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("bias", [(), (5,), (3, 5), (3, 1), (1, 5)])
def test_gemm_cuts_matrix_and_bias_on_the_right_side(
    trans_a, trans_b, bias, new_net, resized, value_of, feeds_of, run, rng
):
    net, keep = new_net(), [1, 2, 4]
    x = net.input("x", *((4, 3) if trans_a else (3, 4)))
    w = net.weight(rng.normal(size=(5, 4) if trans_b else (4, 5)))
    c = net.weight(rng.normal(size=bias))
    y = net("Gemm", x, w, c, transA=trans_a, transB=trans_b, name="y")
    model = net.build(y)
    small, feeds = resized(model, "y", 1, 3, keep), feeds_of(model)
    expected = run(model, feeds)["y"][:, keep]
    np.testing.assert_allclose(run(small, feeds)["y"], expected, rtol=1e-5)


def test_channels_between_convolutions_are_cut_in_both(new_net, resized, feeds_of, run, rng):
    net, keep = new_net(), [0, 3]
    first, second = rng.normal(size=(4, 3, 3, 3)), rng.normal(size=(5, 4, 3, 3))
    second[:, [1, 2]] = 0
    inner = net("Conv", net.input("x", 1, 3, 8, 8), net.weight(first), name="inner")
    model = net.build(y=net("Conv", net("Relu", inner), net.weight(second)))
    small, feeds = resized(model, "inner", 1, 2, keep), feeds_of(model)
    np.testing.assert_allclose(run(small, feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_follows_its_channels_and_its_group(
    multiplier, new_net, resized, feeds_of, run, rng
):
    net, keep = new_net(), [0, 2, 3]
    w = net.weight(rng.normal(size=(4 * multiplier, 1, 3, 3)))
    bias = net.weight(rng.normal(size=4 * multiplier))
    model = net.build(y=net("Conv", net.input("x", 2, 4, 6, 6), w, bias, group=4))
    small, feeds = resized(model, "x", 1, 3, keep), feeds_of(model)
    whole = run(model, feeds)["y"].reshape(2, 4, multiplier, 4, 4)[:, keep]
    part = run(small, {"x": feeds["x"][:, keep]})["y"]
    np.testing.assert_allclose(part, whole.reshape(part.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_grouped_convolution_pins_its_channels(op, new_net, agrees, resized, rng):
    net = new_net()
    w = net.weight(rng.normal(size=(6, 2, 3, 3) if op == "Conv" else (4, 3, 3, 3)))
    model = net.build(net(op, net.input("x", 1, 4, 6, 6), w, group=2, name="grouped"))
    agrees(model, analyse(model.graph))
    for name in ("x", "grouped"):
        with pytest.raises(JobFault, match="in 2 groups") as caught:
            resized(model, name, 1, 2, [0, 1])
        assert caught.value.code == "EV211" and "grouped" in caught.value.what


def test_a_window_pins_its_grid_on_both_sides(new_net, resized, rng):
    net = new_net()
    w = net.weight(rng.normal(size=(5, 3, 3, 3)))
    model = net.build(net("Conv", net.input("x", 1, 3, 8, 8), w, strides=[2, 2], name="windows"))
    for name in ("x", "windows"):
        with pytest.raises(JobFault, match="a window slides over it") as caught:
            resized(model, name, 2, 2, [0, 1])
        assert caught.value.code == "EV211" and "windows" in caught.value.what


def patches(new_net, rng, **attributes):
    net = new_net()
    w = net.weight(rng.normal(size=(5, 3, 2, 4)))
    x = net.input("x", 1, 3, 8, 12)
    return net.build(net("Conv", x, w, net.weight(rng.normal(size=5)), name="p", **attributes))


def test_windows_side_by_side_are_patches_times_pixels(
    new_net, agrees, resized, feeds_of, run, rng
):
    """Leaving out rows of patches is leaving out their pixels, number for number."""
    model, keep = patches(new_net, rng, strides=[2, 4]), [0, 2]
    found = analyse(model.graph)
    agrees(model, found)
    assert [len(expand(t)) for t in found.of(model.graph.inputs[0])] == [0, 1, 2, 2]
    small, feeds = resized(model, "p", 2, 2, keep), feeds_of(model)
    assert list(small.graph.inputs[0].shape) == [1, 3, 4, 12]
    less = feeds["x"].reshape(1, 3, 4, 2, 12)[:, :, keep].reshape(1, 3, 4, 12)
    expected = run(model, feeds)["p"][:, :, keep]
    np.testing.assert_allclose(run(small, {"x": less})["p"], expected, rtol=1e-5)
    with pytest.raises(JobFault, match="folded into"):
        resized(model, "x", 2, 4, range(4))
    window = expand(found.of(model.graph.inputs[0])[3])[1]
    with pytest.raises(JobFault, match="it is the window of a convolution"):
        resize(found, (window,), 2, [0, 1])


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2]},
        {"strides": [1, 1]},
        {"strides": [2, 4], "pads": [0, 4, 0, 0]},
        {"strides": [2, 4], "dilations": [1, 2]},
    ],
    ids=str,
)
def test_windows_that_overlap_or_leave_pixels_out_are_none(attributes, new_net, resized, rng):
    with pytest.raises(JobFault, match="a window slides over it"):
        resized(patches(new_net, rng, **attributes), "p", 3, 1, [0])


def test_a_window_pins_the_parts_of_a_padded_grid(new_net, resized, rng):
    """Pad makes a sum; what the window slides over is the sum, so no part of it may change."""
    net = new_net()
    x = net.input("x", 1, 3, 6, 6)
    padded = net("Pad", x, net.ints(0, 0, 1, 0, 0, 0, 1, 0))
    w = net.weight(rng.normal(size=(5, 3, 2, 2)))
    model = net.build(net("Conv", padded, w, strides=[2, 2], name="patches"))
    with pytest.raises(JobFault, match="a window slides over it") as caught:
        resized(model, "x", 2, 4, [0, 1, 2, 3])
    assert "patches" in caught.value.what


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_window_of_one_pixel_hands_its_grid_on(op, new_net, resized, feeds_of, run, rng):
    net, keep = new_net(), [0, 2, 5]
    w = net.weight(rng.normal(size=(5, 3, 1, 1) if op == "Conv" else (3, 5, 1, 1)))
    model = net.build(y=net(op, net.input("x", 1, 3, 6, 4), w))
    small, feeds = resized(model, "x", 2, 3, keep), feeds_of(model)
    expected = run(model, feeds)["y"][:, :, keep]
    np.testing.assert_allclose(run(small, {"x": feeds["x"][:, :, keep]})["y"], expected, rtol=1e-5)


def test_a_convolution_along_one_side_pins_that_side_only(new_net, refused, rng):
    net = new_net()
    w = net.weight(rng.normal(size=(5, 3, 3, 1)))
    model = net.build(net("Conv", net.input("x", 2, 3, 6, 4), w, pads=[1, 0, 1, 0]))
    assert refused(model) == {("x", 2)}


def test_operands_that_do_not_fit_are_refused_with_the_node(new_net):
    net = new_net()
    y = net("MatMul", net.input("a", 2, 3), net.input("b", 4, 5), name="misfit")
    y.shape = None
    with pytest.raises(JobFault, match=r"of 3 .* and 4 .* elements meet") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "misfit" in caught.value.what
