"""Slice and Split: the cut dimension becomes a sum of what is taken and what is left."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize, size_of
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.rules import section
from edgevlm.compiler.axes.rules.section import equal_parts
from edgevlm.compiler.errors import JobFault

LAST = 2**63 - 1


def build(new_net, op: str):
    net = new_net()
    x = net.input("x", 3, 10)
    if op == "Slice":
        return net.build(net(op, x, net.ints(1), net.ints(LAST), net.ints(1)))
    if op == "Split":
        return net.build(*net(op, x, net.ints(2, 3, 5), axis=1, outputs=3))
    raise KeyError(op)


@pytest.mark.parametrize("op", sorted(section.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, new_net, agrees):
    model = build(new_net, op)
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("op", sorted(section.RULES))
def test_a_cut_axis_is_a_sum_whose_parts_can_be_resized(op, new_net, refused, value_of, agrees):
    model = build(new_net, op)
    assert refused(model) == {("x", 1)}  # the sum itself: which of its parts is meant?
    for place in range(len(parts_of(analyse(model.graph).of(value_of(model, "x"))[1]))):
        clone = model.clone()
        found = analyse(clone.graph)
        part = parts_of(found.of(value_of(clone, "x"))[1])[place]
        if size_of(part) == 1:
            continue
        resize(found, part, size_of(part) - 1)
        agrees(clone, found)


@pytest.mark.parametrize(
    "case",
    [
        {"starts": [0], "ends": [4]},
        {"starts": [-4], "ends": [LAST]},
        {"starts": [2], "ends": [-3]},
        {"starts": [-100], "ends": [100], "axes": [-1]},
        {"starts": [1, 2], "ends": [6, 9], "axes": [0, 1]},
        {"starts": [0], "ends": [9], "axes": [1], "steps": [2]},
        {"starts": [-1], "ends": [-LAST], "axes": [1], "steps": [-1]},
        {"starts": [1, 8], "ends": [5, 1], "axes": [0, 1], "steps": [1, -3]},
    ],
)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_slices(case, dtype, new_net, agrees):
    net = new_net()
    keys = ("starts", "ends", "axes", "steps")
    limit = np.iinfo(dtype)
    bounds = [
        net.weight(np.clip(case[k], limit.min, limit.max).astype(dtype)) if k in case else None
        for k in keys
    ]
    model = net.build(net("Slice", net.input("x", 7, 10), *bounds))
    agrees(model, analyse(model.graph))


def part(model, value_of, place: int, dim: int = 1):
    found = analyse(model.graph)
    return found, parts_of(found.of(value_of(model, "x"))[dim])[place]


def test_what_lies_before_a_slice_moves_it(new_net, value_of, agrees, run):
    net = new_net()
    y = net("Slice", net.input("x", 2, 10), net.ints(4), net.ints(9), net.ints(1))
    model = net.build(y=y)
    found, before = part(model, value_of, 0)
    assert resize(found, before, 1) == ["Slice_0: Slice [4] -> [1]", "Slice_0: Slice [9] -> [6]"]
    agrees(model, found)
    data = np.arange(14, dtype=np.float32).reshape(2, 7)
    np.testing.assert_array_equal(run(model, {"x": data})["y"], data[:, 1:6])


def test_open_ends_and_negative_bounds_stay_while_they_hold(new_net, value_of, agrees):
    net = new_net()
    names = {"starts": (-3,), "ends": (LAST,), "axes": (1,)}
    bounds = [net.ints(*numbers, name=name) for name, numbers in names.items()]
    model = net.build(net("Slice", net.input("x", 2, 10), *bounds))
    found, before = part(model, value_of, 0)
    assert resize(found, before, 2) == []
    agrees(model, found)
    for name, numbers in names.items():
        assert model.graph.initializers[name].const_value.numpy().tolist() == list(numbers)


def test_a_strided_axis_is_pinned_and_the_other_axes_are_still_derived(
    new_net, resized, value_of, agrees
):
    net = new_net()
    bounds = [net.ints(*n) for n in ((1, 0), (6, 10), (0, 1), (1, 2))]
    model = net.build(net("Slice", net.input("x", 7, 10), *bounds, name="every_other"))
    for name in ("x", "every_other"):
        with pytest.raises(JobFault, match="every 2th element") as caught:
            resized(model, name, 1, 4)
        assert caught.value.code == "EV211" and "every_other" in caught.value.what
    found, taken = part(model, value_of, 1, dim=0)
    resize(found, taken, 2)
    agrees(model, found)
    assert model.graph.outputs[0].shape == (2, 5)


def test_an_empty_slice_is_refused_with_the_node(new_net):
    net = new_net()
    y = net("Slice", net.input("x", 7), net.ints(3), net.ints(3), name="nothing")
    with pytest.raises(JobFault, match="leaves nothing") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "nothing" in caught.value.what


def test_a_slice_across_rows_cuts_every_row(new_net, value_of, agrees, run):
    """[4,6] flat, elements 2 to 8: the columns are 2 + 4, and dropping a column drops it in all."""
    net = new_net()
    x = net.input("x", 4, 6)
    flat = net("Reshape", x, net.ints(24))
    model = net.build(y=net("Slice", flat, net.ints(2), net.ints(8), name="slanted"))
    found = analyse(model.graph)
    first, second = parts_of(found.of(x)[1])
    resize(found, second, 3, [0, 1, 3])
    resize(found, first, 1, [1])
    agrees(model, found)
    data = np.arange(24, dtype=np.float32).reshape(4, 6)[:, [1, 2, 3, 5]]
    assert run(model, {"x": data})["y"].tolist() == [2, 3, 5, 7]


def test_a_slice_between_the_rows_of_a_product_cuts_the_outer_axis(new_net, value_of, agrees):
    net = new_net()
    flat = net("Reshape", net.input("x", 4, 6), net.ints(24))
    model = net.build(net("Slice", flat, net.ints(6), net.ints(18)))
    found = analyse(model.graph)
    (inner,) = expand(found.of(value_of(model, "x"))[1])
    resize(found, (inner,), 5)
    agrees(model, found)
    assert model.graph.outputs[0].shape == (10,)


@pytest.mark.parametrize(("total", "count"), [(12, 3), (10, 3), (7, 2)])
def test_split_by_count(total, count, new_net, agrees):
    net = new_net()
    parts = net("Split", net.input("x", total), num_outputs=count, outputs=count)
    model = net.build(*parts)
    agrees(model, analyse(model.graph))
    assert [v.shape[0] for v in parts] == equal_parts(total, count)


def test_parts_of_a_split_by_count_are_written_out_once_they_differ(new_net, agrees, run):
    net = new_net()
    a, b, c = net("Split", net.input("x", 2, 12), axis=1, num_outputs=3, outputs=3)
    model = net.build(a=a, b=b, c=c)
    found = analyse(model.graph)
    resize(found, found.of(c)[1], 1)
    agrees(model, found)
    assert "num_outputs" not in a.producer().attributes
    got = run(model, {"x": np.arange(18, dtype=np.float32).reshape(2, 9)})
    assert [v[0].tolist() for v in got.values()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_parts_of_a_split_by_count_that_stay_equal_need_no_sizes(new_net, agrees):
    net = new_net()
    gate, up = net("Split", net.input("x", 2, 12), axis=1, num_outputs=2, outputs=2)
    model = net.build(net("Mul", gate, up))
    found = analyse(model.graph)
    assert resize(found, found.of(gate)[1], 4) == []
    agrees(model, found)
    assert len(gate.producer().inputs) == 1
