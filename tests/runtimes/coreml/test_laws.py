"""Laws of places, drawn: whatever MIL allows, handlers give what numpy gives, and else refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")

import torch

from edgevlm.runtimes.coreml.ops import OPS
from edgevlm.runtimes.coreml.ops.forms import Refused, inside

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
BOUND = st.integers(-7, 7)
STEP = st.integers(-3, 3).filter(bool)


def numbered(*sizes: int) -> torch.Tensor:
    return torch.arange(float(np.prod(sizes))).reshape(sizes)


@st.composite
def bounds(draw, fitting: bool = False):
    """Sizes, bounds and open bounds, and which axes are dropped; a place that is there if asked."""
    sizes = draw(SIZES)
    axes = [
        (draw(BOUND), draw(BOUND), draw(STEP), draw(st.booleans()), draw(st.booleans()))
        for _ in sizes
    ]
    there = [not axis[3] and -n <= axis[0] < n for n, axis in zip(sizes, axes, strict=True)]
    dropped = [draw(st.booleans()) and (fits or not fitting) for fits in there]
    return sizes, axes, dropped


def as_numpy(sizes, axes, dropped):
    """numpy's own key, and whether every dropped axis has its place."""
    key, fits = [], True
    for size, (begin, end, step, open_begin, open_end), drop in zip(
        sizes, axes, dropped, strict=True
    ):
        if drop:
            fits &= not open_begin and -size <= begin < size
            key.append(begin)
        else:
            key.append(slice(None if open_begin else begin, None if open_end else end, step))
    return tuple(key), fits


def options(axes, dropped):
    begin, end, step, open_begin, open_end = (tuple(row) for row in zip(*axes, strict=True))
    return {"begin": begin, "end": end, "stride": step, "begin_mask": open_begin,
            "end_mask": open_end, "squeeze_mask": tuple(dropped)}  # fmt: skip


@given(bounds())
def test_slices_are_those_of_numpy(drawn):
    sizes, axes, dropped = drawn
    key, fits = as_numpy(*drawn)
    x = numbered(*sizes)
    if not fits:
        with pytest.raises(IndexError):
            OPS["slice_by_index"](x, **options(axes, dropped))
        return
    found = OPS["slice_by_index"](x, **options(axes, dropped))
    np.testing.assert_array_equal(found.numpy(), x.numpy()[key])


@given(bounds(fitting=True))
def test_what_is_written_into_a_slice_is_read_from_it(drawn):
    sizes, axes, dropped = drawn
    key, _ = as_numpy(*drawn)
    x = numbered(*sizes)
    want = x.numpy().copy()
    update = -1 - numbered(*want[key].shape)
    want[key] = update.numpy()
    found = OPS["slice_update"](x, update, **options(axes, dropped))
    np.testing.assert_array_equal(found.numpy(), want)
    again = OPS["slice_by_index"](found, **options(axes, dropped))
    assert torch.equal(again, update)
    assert torch.equal(x, numbered(*sizes)), "written in place"


@given(sizes=SIZES, axis=st.integers(-3, 2), data=st.data())
def test_gathers_are_those_of_numpy(sizes, axis, data):
    shape = hnp.array_shapes(min_dims=0, max_dims=2, max_side=4)
    places = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(-6, 6)))
    x, size = numbered(*sizes), sizes[axis]
    for ios in (16, 17):
        low = -size if ios == 16 else 0
        if places.size and (places.min() < low or places.max() >= size):
            with pytest.raises(IndexError):
                OPS["gather"](x, torch.from_numpy(places), axis, ios=ios)
        else:
            found = OPS["gather"](x, torch.from_numpy(places), axis, ios=ios)
            np.testing.assert_array_equal(found.numpy(), np.take(x.numpy(), places, axis))


@given(sizes=SIZES, depth=st.integers(1, 3), data=st.data())
def test_what_is_scattered_is_gathered(sizes, depth, data):
    """gather_nd of scatter_nd gives the updates; a place that is written twice is refused."""
    x = numbered(*sizes)
    count = data.draw(st.integers(1, 4))
    drawn = [[data.draw(st.integers(0, size - 1)) for size in sizes[:depth]] for _ in range(count)]
    places = torch.tensor(drawn, dtype=torch.int32)
    updates = -1 - numbered(count, *sizes[depth:])
    if len(set(map(tuple, drawn))) < count:
        with pytest.raises(Refused, match="written twice"):
            OPS["scatter_nd"](x, places, updates, mode="update")
        return
    found = OPS["scatter_nd"](x, places, updates, mode="update")
    assert torch.equal(OPS["gather_nd"](found, places), updates)
    assert int((found != x).sum()) == updates.numel()


@given(sizes=SIZES, data=st.data())
def test_reshapes_keep_the_numbers_in_order(sizes, data):
    """A size may be written as 0 where it stays, counted from the end, and one as -1."""
    total = int(np.prod(sizes))
    head = data.draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
    want = [head, total // head]
    written = list(want)
    if data.draw(st.booleans()):
        written[data.draw(st.integers(0, 1))] = -1
    elif sizes[-1] == want[-1] and data.draw(st.booleans()):
        written[-1] = 0
    x = numbered(*sizes)
    found = OPS["reshape"](x, tuple(written), ios=18)
    assert torch.equal(found, x.reshape(want))


@given(sizes=SIZES, data=st.data(), mode=st.sampled_from(["constant", "reflect", "replicate"]))
def test_padding_is_that_of_numpy(sizes, data, mode):
    axes = data.draw(st.integers(1, 3))
    most = [size - 1 if mode == "reflect" else 3 for size in sizes[-axes:]]
    pads = [data.draw(st.integers(0, n)) for n in most for _ in range(2)]
    x = numbered(*sizes)
    found = OPS["pad"](x, tuple(pads), mode, 0.0)
    pairs = [(0, 0)] * (3 - axes) + list(zip(pads[::2], pads[1::2], strict=True))
    how = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    np.testing.assert_array_equal(found.numpy(), np.pad(x.numpy(), pairs, how))


@given(places=st.lists(st.integers(-9, 9), max_size=5), size=st.integers(1, 6))
def test_places_are_inside_or_refused(places, size):
    index = torch.tensor(places, dtype=torch.int32)
    for ios, low in ((16, -size), (17, 0)):
        if all(low <= place < size for place in places):
            assert inside(index, size, ios).tolist() == [place % size for place in places]
        else:
            with pytest.raises(IndexError, match="which Core ML leaves undefined"):
                inside(index, size, ios)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
                  elements=st.sampled_from([0.0, 1.0, -1.0, 2.0, np.inf, -np.inf])),
       st.booleans())  # fmt: skip
def test_of_equal_numbers_the_first_is_taken(x, ascending):
    values, places = OPS["topk"](torch.from_numpy(x), x.shape[1], ascending=ascending)
    order = np.argsort(x if ascending else -x, -1, kind="stable")
    np.testing.assert_array_equal(places.numpy(), order)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order, -1))
    assert OPS["reduce_argmax"](torch.from_numpy(x)).tolist() == np.argmax(x, -1).tolist()
