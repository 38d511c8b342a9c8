"""Reductions, TopK and normalisations."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.rules import reduce
from edgevlm.compiler.errors import JobFault

PINNED = {"GroupNormalization": {("x", 1)}, "LRN": {("x", 1)}}
ALONG_LAST = {"Softmax", "LogSoftmax", "Hardmax", "LpNormalization"}


def build(new_net, op: str):
    net = new_net()
    x = net.input("x", 3, 4, 6, *((2,) if op == "LRN" else ()))
    one = [net.weight(np.linspace(1, 2, 4)) for _ in range(2)]
    match op:
        case "ArgMax" | "ArgMin":
            return net.build(net(op, x, axis=1, keepdims=0))
        case "TopK":
            return net.build(*net(op, x, net.ints(2), axis=1, outputs=2))
        case "Softmax" | "LogSoftmax" | "Hardmax" | "LpNormalization":
            return net.build(net(op, x, axis=-1))
        case "LayerNormalization":
            scale = net.weight(np.ones((4, 6)))
            return net.build(*net(op, x, scale, net.weight(np.ones(6)), axis=1, outputs=3))
        case "RMSNormalization":
            return net.build(net(op, x, net.weight(np.ones(6))))
        case "GroupNormalization":
            return net.build(net(op, x, *one, num_groups=2))
        case "InstanceNormalization":
            return net.build(net(op, x, *one))
        case "LRN":
            return net.build(net(op, x, size=3))
    return net.build(net(op, x, net.ints(-2), keepdims=0), net(op, x, net.ints(0, 2)))


@pytest.mark.parametrize("op", sorted(reduce.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, new_net, agrees):
    model = build(new_net, op)
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("op", sorted(reduce.RULES))
def test_every_axis_can_be_resized_unless_it_is_grouped(op, new_net, refused):
    assert refused(build(new_net, op)) == PINNED.get(op, set())


@pytest.mark.parametrize("op", sorted(reduce.RULES))
def test_an_axis_the_op_does_not_mix_is_gathered(op, new_net, resized, feeds_of, run):
    """The first dimension is independent of itself in all of these, and so is what comes of it."""
    model, keep = build(new_net, op), [0, 2]
    small, feeds = resized(model, "x", 0, 2, keep), feeds_of(model)
    whole, part = run(model, feeds), run(small, {"x": feeds["x"][keep]})
    for name, array in whole.items():
        if array.shape[0] == 3:
            np.testing.assert_allclose(part[name], array[keep], rtol=1e-6)
        else:
            assert array.shape[0] == 1 and op.startswith("Reduce")


@pytest.mark.parametrize("op", sorted(set(reduce.RULES) - {*reduce.REDUCTIONS, *PINNED}))
def test_an_axis_the_op_mixes_equals_the_op_on_fewer_elements(op, new_net, resized, feeds_of, run):
    """Dropping elements before the op is the op on the rest: nothing about the old size is left."""
    model, keep = build(new_net, op), [0, 2, 3]
    dim = 2 if op in ALONG_LAST | {"RMSNormalization"} else 1
    small, feeds = resized(model, "x", dim, 3, keep), feeds_of(model)
    less = np.take(feeds["x"], keep, axis=dim)
    got = next(iter(run(small, {"x": less}).values()))
    np.testing.assert_allclose(got, reference(op, less, keep), rtol=1e-4, atol=1e-5)


def reference(op: str, x: np.ndarray, keep: list[int]) -> np.ndarray:
    mean, spread = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    match op:
        case "ArgMax" | "ArgMin":
            return (np.argmax if op == "ArgMax" else np.argmin)(x, 1)
        case "TopK":
            return -np.sort(-x, 1)[:, :2]
        case "Softmax" | "LogSoftmax":
            y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
            return y if op == "Softmax" else np.log(y)
        case "Hardmax":
            return (x == x.max(-1, keepdims=True)).astype(np.float32)
        case "LpNormalization":
            return x / np.linalg.norm(x, axis=-1, keepdims=True)
        case "LayerNormalization":
            return (x - mean) / np.sqrt(spread + 1e-5) + 1
        case "RMSNormalization":
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        case "InstanceNormalization":
            one = np.linspace(1, 2, 4)[keep][:, None]
            mean, spread = x.mean(2, keepdims=True), x.var(2, keepdims=True)
            return (x - mean) / np.sqrt(spread + 1e-5) * one + one
    raise KeyError(op)


@pytest.mark.parametrize(("keepdims", "axes"), [(0, None), (1, None), (0, (0, -1)), (1, (1,))])
def test_reductions_of_all_axes_and_of_some(keepdims, axes, new_net, agrees):
    net = new_net()
    x = net.input("x", 2, 3, 4)
    y = net("ReduceMean", x, *([net.ints(*axes)] if axes else []), keepdims=keepdims)
    model = net.build(y)
    agrees(model, analyse(model.graph))


def test_a_reduction_of_no_axes_is_no_reduction(new_net, agrees):
    net = new_net()
    model = net.build(net("ReduceSum", net.input("x", 2, 3), noop_with_empty_axes=1))
    agrees(model, analyse(model.graph))


def test_k_of_top_k_is_an_axis_that_can_be_resized(new_net, agrees, run):
    net = new_net()
    best, index = net("TopK", net.input("x", 8), net.ints(5), outputs=2)
    model = net.build(best=best, index=index)
    found = analyse(model.graph)
    assert resize(found, found.of(index)[0], 2) == ["TopK_0: TopK [5] -> [2]"]
    agrees(model, found)
    got = run(model, {"x": np.array([3, 9, 1, 7, 2, 4, 8, 0], np.float32)})
    assert got["index"].tolist() == [1, 6]


def test_top_k_of_fewer_than_k_is_refused_and_nothing_is_changed(new_net, resized):
    net = new_net()
    model = net.build(*net("TopK", net.input("x", 8), net.ints(5), outputs=2, name="choose"))
    with pytest.raises(JobFault, match="would pick 5 of 4 elements") as caught:
        resized(model, "x", 0, 4)
    assert caught.value.code == "EV211" and "choose" in caught.value.what
    found = analyse(model.graph)
    with pytest.raises(JobFault, match="would pick 5 of 3"):
        resize(found, found.of(model.graph.inputs[0])[0], 3)
    assert found.of(model.graph.inputs[0])[0][0].size == 8
    assert list(resized(model, "x", 0, 5).graph.inputs[0].shape) == [5]


def test_scales_of_a_normalisation_over_two_axes_are_cut_in_both(new_net, resized, value_of, rng):
    net = new_net()
    scale = net.weight(rng.normal(size=(4, 6)), "scale")
    y = net("LayerNormalization", net.input("x", 3, 4, 6), scale, axis=1)
    small = resized(resized(net.build(y), "x", 1, 2, [1, 3]), "x", 2, 3, [0, 2, 5])
    (kept,) = small.graph.initializers.values()
    expected = scale.const_value.numpy()[[1, 3]][:, [0, 2, 5]]
    np.testing.assert_array_equal(kept.const_value.numpy(), expected)


def test_a_grouped_normalisation_pins_its_channels(new_net, resized):
    net = new_net()
    one = net.weight(np.ones(4))
    y = net("GroupNormalization", net.input("x", 1, 4, 5), one, one, num_groups=2, name="groups")
    with pytest.raises(JobFault, match="normalises groups of it") as caught:
        resized(net.build(y), "x", 1, 2, [0, 1])
    assert caught.value.code == "EV211" and "groups" in caught.value.what
