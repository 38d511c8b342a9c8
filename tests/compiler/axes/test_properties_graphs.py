"""Random graphs: whatever the analysis lets through is right, judged by ONNX Runtime.

Data movement is judged without the analysis: every input element is a number of its own, so what
the edited graph must return is the original's output without the numbers that were dropped.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from edgevlm.compiler.axes import analyse, resize, size_of
from edgevlm.compiler.axes.axis import ancestors, expand

many = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@many
@given(st.data())
def test_moved_elements_are_the_ones_that_stay(random_graphs, new_net, run, agrees, data):
    g = random_graphs
    model = g.moving_graph(new_net, data.draw)
    found = g.analysed(model)
    agrees(model, found)
    axis, feeds = g.leaf(data.draw, model, found), g.numbered(model)
    stay = np.array(data.draw(st.lists(st.booleans(), min_size=axis.size, max_size=axis.size)))
    assume(stay.any())
    whole = run(model, feeds)
    less = {v.name: g.restrict(feeds[v.name], found.of(v), axis, stay) for v in model.graph.inputs}
    left = np.concatenate([v.reshape(-1) for v in less.values()])
    event("something is dropped" if not stay.all() else "nothing is dropped")
    small = model.clone()
    again = analyse(small.graph)
    twin = g.same_axis(found, again, axis)
    resize(again, (twin,), int(stay.sum()), np.flatnonzero(stay))
    agrees(small, again)
    for (name, got), old in zip(run(small, less).items(), whole.values(), strict=True):
        expected = old.reshape(-1)[np.isin(old.reshape(-1), left)]
        np.testing.assert_array_equal(got.reshape(-1), expected, err_msg=name)
    for name, array in run(model, feeds).items():  # the original is what it was
        np.testing.assert_array_equal(array, whole[name])


@many
@given(st.data())
def test_dropping_elements_equals_zeroing_them(random_graphs, new_net, run, agrees, data):
    """Input and weights are zeroed where the axis is dropped: then the dropped elements are zero in
    every value and count for nothing in a sum, so that what stays must equal the smaller graph."""
    g = random_graphs
    model = g.mixing_graph(new_net, data.draw)
    found = g.analysed(model)
    axis = g.leaf(data.draw, model, found)
    stay = np.array(data.draw(st.lists(st.booleans(), min_size=axis.size, max_size=axis.size)))
    assume(stay.any() and not stay.all())
    (x,), (y,) = model.graph.inputs, model.graph.outputs
    above = ancestors(axis)
    event("a weight is cut" if any(
        above & set(expand(t)) for dims in found.weights.values() for t in dims
    ) else "no weight is cut")  # fmt: skip
    feed = np.random.default_rng(1).normal(size=list(x.shape)).astype(np.float32)
    less = {"x": g.restrict(feed, found.of(x), axis, stay)}

    hollow, small = model.clone(), model.clone()
    places = dict(zip(model.graph, hollow.graph, strict=True))
    for (node, position), dims in found.weights.items():
        if (node, position) not in found.constants:
            twin = places[node]
            tensor = g.zero(node.inputs[position].const_value.numpy(), dims, axis, stay)
            twin.inputs[position].const_value = ir.tensor(tensor, name=twin.inputs[position].name)
    (whole,) = run(hollow, {"x": g.zero(feed, found.of(x), axis, stay)}).values()
    expected = g.restrict(whole, found.of(y), axis, stay)

    again = analyse(small.graph)
    resize(again, (g.same_axis(found, again, axis),), int(stay.sum()), np.flatnonzero(stay))
    agrees(small, again)
    (got,) = run(small, less).values()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@many
@given(st.data())
def test_resizing_twice_equals_resizing_once(random_graphs, new_net, run, data):
    """N -> K -> J with the second keep counted among the first is N -> J; N -> N is nothing."""
    g = random_graphs
    model = g.mixing_graph(new_net, data.draw)
    found = g.analysed(model)
    axis = g.leaf(data.draw, model, found)
    first = sorted(data.draw(st.sets(st.integers(0, axis.size - 1), min_size=1)))
    second = sorted(data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1)))
    both = [first[i] for i in second]
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert resize(found, (axis,), axis.size, range(axis.size)) == []
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before

    results = []
    for steps in ([first, second], [both]):
        clone = model.clone()
        known = analyse(clone.graph)
        twin = g.same_axis(found, known, axis)
        for keep in steps:
            resize(known, (twin,), len(keep), keep)
        (x,) = clone.graph.inputs
        rng = np.random.default_rng(2)
        (y,) = run(clone, {"x": rng.normal(size=list(x.shape)).astype(np.float32)}).values()
        assert [size_of(t) for t in known.of(clone.graph.outputs[0])] == list(y.shape)
        weights = [n.inputs[1] for n in clone.graph if n.op_type in ("Add", "Mul", "MatMul")]
        results.append([y] + [w.const_value.numpy() for w in weights if w.const_value is not None])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
