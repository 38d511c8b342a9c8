"""What is stored along an axis, drawn anew for another size, wherever in a tensor the axis is."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.errors import JobFault


def every_other(array, size):
    """A resampling that is easily told: the first `size` of the elements, each times ten."""
    return array[:size] * 10


def tower(new_net, rng, table, behind=0):
    """Patches of 2 x 2 of a picture of 8 x 6, places added as one dimension of 4 x 3."""
    net = new_net()
    x, w = net.input("x", 1, 3, 8, 6), net.weight(rng.normal(size=(5, 3, 2, 2)))
    grid = net("Conv", x, w, strides=[2, 2], name="grid")
    rows = net("Reshape", grid, net.ints(1, 5, 12))
    y = net("Transpose", rows, perm=[0, 2, 1])
    if behind:
        y = net("Concat", net.weight(rng.normal(size=(1, behind, 5))), y, axis=1)
    return net.build(y=net("Add", y, net.weight(table, "table")))


@pytest.mark.parametrize("lead", [0, 1, 3])
def test_rows_and_columns_of_a_table_of_places(lead, new_net, value_of, run, rng):
    table = rng.normal(size=(1, lead + 12, 5)).astype(np.float32)
    model = tower(new_net, rng, table, lead)
    for dim, size in ((2, 3), (3, 2)):
        found = analyse(model.graph)
        resize(found, found.of(value_of(model, "grid"))[dim], size, resample=every_other)
    assert list(model.graph.inputs[0].shape) == [1, 3, 6, 4]
    (made,) = [v for n, v in model.graph.initializers.items() if n.startswith("table")]
    places = table[:, lead:].reshape(1, 4, 3, 5)[:, :3, :2] * 100
    want = np.concatenate([table[:, :lead], places.reshape(1, 6, 5)], 1)
    np.testing.assert_allclose(made.const_value.numpy(), want, rtol=1e-6)
    x = rng.normal(size=(1, 3, 6, 4)).astype(np.float32)
    y = run(model, {"x": x})["y"]
    plain = run(tower_of(model, np.zeros_like(want)), {"x": x})["y"]
    np.testing.assert_allclose(y - plain, want, atol=1e-4)


def tower_of(model, table):
    """The model with another table."""
    import onnx_ir as ir

    clone = model.clone()
    for name, value in clone.graph.initializers.items():
        if name.startswith("table"):
            value.const_value = ir.tensor(table, name=name)
    return clone


def test_the_same_size_asks_for_nothing(new_net, value_of, rng):
    model = tower(new_net, rng, rng.normal(size=(12, 5)))
    found = analyse(model.graph)

    def never(array, size):
        raise AssertionError

    grid = found.of(value_of(model, "grid"))[2]
    assert resize(found, grid, 4, resample=never) == []


@pytest.mark.parametrize(
    ("table", "why"),
    [(np.arange(12 * 5).reshape(12, 5), "int64 numbers"), ("square", "more than once")],
)
def test_what_is_no_table_of_numbers_over_the_axis_is_refused(table, why, new_net, value_of, rng):
    net = new_net()
    x, w = net.input("x", 1, 5, 4, 3), net.weight(rng.normal(size=(5, 5, 1, 1)))
    rows = net("Reshape", net("Conv", x, w, name="grid"), net.ints(5, 12))
    if isinstance(table, str):
        square = net("MatMul", net("Transpose", rows, perm=[1, 0]), rows)
        model = net.build(y=net("Add", square, net.weight(rng.normal(size=(12, 12)), "table")))
    else:
        whole = net("Cast", net("Transpose", rows, perm=[1, 0]), to=7)
        model = net.build(y=net("Add", whole, net.weight(table, "table")))
    found = analyse(model.graph)
    before = list(model.graph.inputs[0].shape)
    with pytest.raises(JobFault, match=why) as caught:
        resize(found, found.of(value_of(model, "grid"))[2], 3, resample=every_other)
    assert caught.value.code == "EV211" and "table" in caught.value.what
    assert list(model.graph.inputs[0].shape) == before
    assert expand(found.of(value_of(model, "grid"))[2])[0].size == 4
