"""Gather, Scatter and OneHot: what a stored index counts must keep its size, unless it is a run."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.rules import gather
from edgevlm.compiler.errors import JobFault

#: dimensions that these cases pin or cut into a sum
HELD = {"Gather": {("x", 1)}, "ScatterND": {("x", 0), ("x", 1)}}
RUN = [
    ((), 0),
    ((), -1),
    ((1,), 3),
    ((1, 1), 3),
    ((4,), 0),
    ((4,), 2),
    ((1, 4), 2),
    ((4, 1), 2),
    ((10,), 0),
]


def build(new_net, op: str):
    net = new_net(24 if op == "TensorScatter" else 23)
    match op:
        case "Gather":
            x = net.input("x", 3, 10)
            picked = net(op, x, net.weight(np.array([[1, 5], [5, 0]])), axis=1)
            rows = net(op, net.weight(np.ones((2, 4))), net.input("ids", 5, dtype="INT64"))
            return net.build(picked, rows, net(op, x, net.ints(4, 5, 6), axis=1))
        case "GatherElements":
            x, index = net.input("x", 3, 10, 4), net.input("index", 3, 5, 2, dtype="INT64")
            return net.build(net(op, x, index, axis=1))
        case "ScatterElements":
            x, index = net.input("x", 3, 10, 4), net.input("index", 3, 2, 4, dtype="INT64")
            return net.build(net(op, x, index, net.input("new", 3, 2, 4), axis=1))
        case "ScatterND":
            x, index = net.input("x", 3, 10, 4), net.weight(np.array([[0, 1], [2, 9], [1, 1]]))
            return net.build(net(op, x, index, net.input("new", 3, 4)))
        case "TensorScatter":
            x, new = net.input("x", 3, 2, 10, 4), net.input("new", 3, 2, 3, 4)
            return net.build(net(op, x, new, net.input("rows", 3, dtype="INT64"), axis=-2))
        case "OneHot":
            x = net.input("x", 3, 4, dtype="INT64")
            return net.build(net(op, x, net.weight(np.int64(6)), net.weight([0.0, 1.0]), axis=1))
    raise KeyError(op)


@pytest.mark.parametrize("op", sorted(gather.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, new_net, agrees):
    model = build(new_net, op)
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("op", sorted(gather.RULES))
def test_every_axis_can_be_resized_unless_an_index_holds_it(op, new_net, refused):
    held = refused(build(new_net, op))
    if op == "GatherElements":  # the index covers the first two of four elements
        assert held == {("x", 2)}
    else:
        assert held == HELD.get(op, set())


@pytest.mark.parametrize(("shape", "first"), RUN)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_a_stored_run_is_a_section_and_is_counted_anew(shape, first, dtype, new_net, agrees, run):
    """Every part of the axis the run cuts can shrink; the run still picks what it picked."""
    count = int(np.prod(shape))
    index = (np.arange(count, dtype=dtype) + first).reshape(shape).astype(dtype)
    net = new_net()
    model = net.build(y=net("Gather", net.input("x", 2, 10, 3), net.weight(index), axis=1))
    data = np.arange(60, dtype=np.float32).reshape(2, 10, 3)
    chosen = set(np.arange(10)[index.reshape(-1)].tolist())
    parts = parts_of(analyse(model.graph).of(model.graph.inputs[0])[1])
    start = 0
    for place, part in enumerate(parts):
        size = int(np.prod([axis.size for axis in part]))
        if size > 1:
            clone = model.clone()
            found = analyse(clone.graph)
            resize(found, parts_of(found.of(clone.graph.inputs[0])[1])[place], size - 1)
            agrees(clone, found)
            stay = [i for i in range(10) if i != start]
            expected = data[:, [i for i in stay if i in chosen]]
            got = run(clone, {"x": data[:, stay]})["y"]
            np.testing.assert_array_equal(got.reshape(expected.shape), expected)
        start += size
    assert start == 10


def test_stored_positions_that_are_no_run_pin_what_they_count(new_net, resized):
    net = new_net()
    model = net.build(
        net("Gather", net.input("x", 10, 3), net.ints(0, 2, 1), axis=0, name="shuffle")
    )
    with pytest.raises(JobFault, match="it picks stored positions of it") as caught:
        resized(model, "x", 0, 9, np.arange(9))
    assert caught.value.code == "EV211" and "shuffle" in caught.value.what


@pytest.mark.parametrize("op", ["Gather", "GatherElements", "ScatterElements", "ScatterND"])
def test_positions_computed_from_stored_ones_are_stored_ones(op, new_net, resized):
    """Cast(arange) is known when compiling: the axis it counts cannot shrink under it unnoticed."""
    net = new_net()
    shape = (3, 1) if op == "ScatterND" else (3,) if op == "Gather" else (3, 4)
    index = net("Cast", net.weight(np.zeros(shape, np.int32)), to=7)
    operands = [net.input("x", 10, 4), index]
    if op.startswith("Scatter"):
        operands.append(net.input("new", 3, 4))
    model = net.build(net(op, *operands, name="fixed"))
    with pytest.raises(JobFault, match="cannot change") as caught:
        resized(model, "x", 0, 9, np.arange(9))
    assert caught.value.code == "EV211" and "fixed" in caught.value.what
    assert list(resized(model, "x", 1, 3, [0, 1, 3]).graph.inputs[0].shape) == [10, 3]


def test_the_positions_themselves_are_cut_where_their_result_is(new_net, resized, run):
    net, keep = new_net(), [0, 2]
    table = np.arange(40, dtype=np.float32).reshape(10, 4)
    model = net.build(y=net("Gather", net.weight(table), net.ints(7, 2, 5), name="y"))
    small = resized(model, "y", 0, 2, keep)
    np.testing.assert_array_equal(run(small, {})["y"], table[[7, 5]])
    assert list(small.graph.initializers) == ["w0", "w1~1"]


def test_a_position_table_read_in_order_is_cut_with_its_tokens(new_net, resized, run, feeds_of):
    """CLIP: Gather(table [N,D], arange [1,N]) + tokens."""
    net, keep = new_net(), [0, 3, 4]
    table = np.arange(24, dtype=np.float32).reshape(6, 4)
    places = net("Gather", net.weight(table, "table"), net.weight(np.arange(6)[None], "ids"))
    model = net.build(y=net("Add", net.input("x", 1, 6, 4), places))
    small, feeds = resized(model, "x", 1, 3, keep), feeds_of(model)
    expected = run(model, feeds)["y"][:, keep]
    np.testing.assert_array_equal(run(small, {"x": feeds["x"][:, keep]})["y"], expected)
    with pytest.raises(JobFault, match="must be known when compiling") as caught:
        resized(model, "x", 1, 3)
    assert caught.value.code == "EV211" and "table" in caught.value.what


def test_rows_of_an_embedding_are_classes(new_net, value_of):
    net = new_net()
    ids = net.input("ids", 1, 5, dtype="INT64")
    y = net("Gather", net.weight(np.ones((7, 4))), ids)
    found = analyse(net.build(y).graph, {"ids": ("batch", "token")})
    (rows, _) = found.weights[(y.producer(), 0)]
    assert rows[0].root.label == "class" and found.names(y) == ("1", "token", "?4")


@pytest.mark.parametrize("op", ["GatherElements", "ScatterElements"])
def test_stored_elementwise_positions_pin_the_axis_they_count(op, new_net, resized):
    net = new_net()
    x, index = net.input("x", 3, 10), net.weight(np.zeros((3, 2), np.int64))
    operands = [x, index] + ([net.input("new", 3, 2)] if op == "ScatterElements" else [])
    model = net.build(net(op, *operands, axis=1, name="fixed"))
    with pytest.raises(JobFault, match="counts stored positions") as caught:
        resized(model, "x", 1, 9, np.arange(9))
    assert caught.value.code == "EV211" and "fixed" in caught.value.what
    small = resized(model, "x", 0, 2, [0, 2])
    assert list(small.graph.outputs[0].shape) == ([2, 2] if op == "GatherElements" else [2, 10])


@pytest.mark.parametrize("op", ["ScatterElements", "TensorScatter"])
def test_a_cache_and_what_is_written_to_it_have_the_same_heads(op, new_net, resized, run, rng):
    net, keep = new_net(24), [0, 2]
    cache, new = net.input("cache", 1, 3, 8, 4), net.input("new", 1, 3, 2, 4)
    if op == "TensorScatter":
        y = net(op, cache, new, net.input("at", 1, dtype="INT64"), axis=2)
        at, less = np.array([5]), np.array([5])
    else:
        y = net(op, cache, net.input("at", 1, 3, 2, 4, dtype="INT64"), new, axis=2)
        at = rng.permuted(np.broadcast_to(np.arange(2)[:, None], (1, 3, 2, 4)), axis=2)
        less = at[:, keep]
    model = net.build(y=y)
    small = resized(model, "cache", 1, 2)
    a, b = (rng.normal(size=v.shape).astype(np.float32) for v in (cache, new))
    expected = run(model, {"cache": a, "new": b, "at": at})["y"][:, keep]
    got = run(small, {"cache": a[:, keep], "new": b[:, keep], "at": less})["y"]
    np.testing.assert_array_equal(got, expected)
    assert list(resized(model, "cache", 2, 6).graph.outputs[0].shape) == [1, 3, 6, 4]


def test_rows_written_at_run_time_do_not_pin_the_rows(new_net, refused):
    net = new_net()
    x, at = net.input("x", 10, 4), net.input("at", 3, 1, dtype="INT64")
    assert refused(net.build(net("ScatterND", x, at, net.input("new", 3, 4)))) == set()


def test_the_depth_of_a_one_hot_can_be_resized(new_net, value_of, agrees):
    net = new_net()
    y = net("OneHot", net.input("x", 3, dtype="INT64"), net.ints(6), net.weight([0.0, 1.0]))
    model = net.build(y)
    found = analyse(model.graph)
    resize(found, found.of(y)[1], 4)
    agrees(model, found)
    assert y.producer().inputs[1].const_value.numpy().tolist() == [4]
