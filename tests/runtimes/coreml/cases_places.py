"""Cases of ops that read and write by place: slices, gathers, scatters, sorting."""

from __future__ import annotations

import numpy as np
from coreml_case_forms import Row, Rows, ints, normal

__all__ = ["CASES"]

X = {"x": normal(3, 4, 5)}
RANKED = {"x": np.random.default_rng(3).permutation(24).reshape(2, 3, 4).astype(np.float64)}


def cut(want, feeds=None, **options) -> Row:
    return Row(feeds or X, lambda mb, t, x: mb.slice_by_index(x=x, **options), want)


def by_place(op: str, want, places: np.ndarray, feeds=None, ios: int = 18, **options) -> Row:
    """Places are computed: an input of the program."""
    feeds = {**(feeds or X), "i": places.astype(np.int32)}

    def build(mb, t, x, i):
        return getattr(mb, op)(x=x, indices=i, **options)

    return Row(feeds, build, want, ios=ios)


def stored_places(op: str, want, places: np.ndarray, kind=np.int32, **options) -> Row:
    def build(mb, t, x):
        return getattr(mb, op)(x=x, indices=places.astype(kind), **options)

    return Row(X, build, want)


MODES = {"update": lambda a, b: b, "add": np.add, "sub": np.subtract, "mul": np.multiply,
         "div": np.divide, "max": np.maximum, "min": np.minimum}  # fmt: skip


def scattered(op: str, loop, data: tuple, places: np.ndarray, updates: tuple, kinds=MODES,
              **options) -> Rows:  # fmt: skip
    """loop(places) -> pairs of a place in the data and one in the updates, in order."""
    feeds = {"d": normal(*data), "i": places.astype(np.int32),
             "u": 1 + np.abs(normal(*updates, seed=1))}  # fmt: skip

    def row(mode: str) -> Row:
        def build(mb, t, d, i, u):
            return getattr(mb, op)(data=d, indices=i, updates=u, mode=mode, **options)

        def want(d, i, u):
            y = d.copy()
            for at, source in loop(i):
                y[at] = MODES[mode](y[at], u[source])
            return y

        return Row(feeds, build, want)

    return [row(mode) for mode in kinds]


def rows_of_axis_1(places):
    return [((slice(None), int(p)), (slice(None), k)) for k, p in enumerate(places)]


def along_axis_1(places):
    return [((a, int(places[a, b, c]), c), (a, b, c)) for a, b, c in np.ndindex(2, 2, 3)]


def in_two_axes(places):
    return [(tuple(int(n) for n in row), (k,)) for k, row in enumerate(places)]


def topk_of(axis: int, k: int, largest: bool):
    def want(x):
        order = np.argsort(-x if largest else x, axis, kind="stable")
        order = np.take(order, np.arange(k), axis)
        return np.take_along_axis(x, order, axis), order

    return want


def sorted_row(op: str, want, **options) -> Row:
    return Row(RANKED, lambda mb, t, x: getattr(mb, op)(x=x, **options), want)


def hot(want, on=1.0, off=0.0, **options) -> Row:
    def build(mb, t, i):
        return mb.one_hot(indices=i, one_hot_vector_size=4, on_value=t(on), off_value=t(off),
                          **options)  # fmt: skip

    return Row({"i": np.array([[0, 3, 1]], np.int32)}, build, want)


def update(want, shape: tuple, **options) -> Row:
    feeds = {**X, "u": normal(*shape, seed=5)}

    def build(mb, t, x, u):
        return mb.slice_update(x=x, update=u, **options)

    def run(x, u):
        y = x.copy()
        want(y, u)
        return y

    return Row(feeds, build, run)


def nd(x, i):
    return np.stack([x[tuple(row)] for row in i.astype(int)])


GRID = np.array([[0, 1], [2, 3], [0, 0]])
BATCHED = {"x": normal(2, 3, 4, 5)}

CASES: dict[str, Rows] = {
    "slice_by_index": [
        cut(lambda x: x[0:2, 1:4, 2:3], begin=[0, 1, 2], end=[2, 4, 3]),
        cut(lambda x: x[::2, -3:-1, 1:5:3], begin=[0, -3, 1], end=[3, -1, 5], stride=[2, 1, 3]),
        cut(lambda x: x[:, 1:, :3], begin=[9, 1, 9], end=[0, 9, 3],
            begin_mask=[True, False, True], end_mask=[True, True, False]),
        cut(lambda x: x[:, 2, 1:], begin=[0, 2, 1], end=[0, 0, 0],
            end_mask=[True, False, True], squeeze_mask=[False, True, False]),
        cut(lambda x: x[-1, :, -2], begin=[-1, 0, -2], end=[0, 4, 0],
            squeeze_mask=[True, False, True]),
        cut(lambda x: x[:, ::-1, 4:0:-2], begin=[0, 0, 4], end=[3, 0, 0], stride=[1, -1, -2],
            begin_mask=[False, True, False], end_mask=[False, True, False]),
        cut(lambda x: x[1], {"x": ints(0, 9, 4)}, begin=[1], end=[2], squeeze_mask=[True]),
    ],
    "slice_by_size": [Row(X, lambda mb, t, x: mb.slice_by_size(x=x, begin=[1, 0, 2],
                                                               size=[2, -1, 2]),
                          lambda x: x[1:3, :, 2:4])],
    "slice_update": [
        update(lambda y, u: y.__setitem__(np.s_[0:2, 1:4, 2:3], u), (2, 3, 1), begin=[0, 1, 2],
               end=[2, 4, 3]),
        update(lambda y, u: y.__setitem__(np.s_[:, 2, ::2], u), (3, 3), begin=[0, 2, 0],
               end=[3, 3, 5], stride=[1, 1, 2], squeeze_mask=[False, True, False]),
        update(lambda y, u: y.__setitem__(np.s_[:, ::-1, 4:1:-1], u), (3, 4, 3),
               begin=[0, 0, 4], end=[3, 0, 1], stride=[1, -1, -1],
               begin_mask=[False, True, False], end_mask=[False, True, False]),
    ],
    "gather": [
        by_place("gather", lambda x, i: np.take(x, i.astype(int), 1), ints(0, 4, 2, 3), axis=1),
        by_place("gather", lambda x, i: np.take(x, i.astype(int), -1), ints(0, 5, 3), axis=-1),
        by_place("gather", lambda x, i: np.take(x, i.astype(int), 0),
                 np.array([-1, 0, -3]), ios=16, axis=0),  # from the end, before iOS 17
        by_place("gather", lambda x, i: np.take(x, i.astype(int), 0), np.array([2, -2]), ios=15),
        stored_places("gather", lambda x: x[:, 2], np.array(2), axis=1),
        stored_places("gather", lambda x: x[:, [2, 0]], np.array([2, 0]), np.uint16, axis=1),
        by_place("gather", lambda x, i: np.stack([np.take(x[b], i[b].astype(int), 1)
                                                  for b in range(2)]),
                 ints(0, 4, 2, 6), BATCHED, axis=2, batch_dims=1),
        by_place("gather", lambda x, i: np.stack([[x[b, c, i[b, c].astype(int)] for c in range(3)]
                                                  for b in range(2)]),
                 ints(0, 4, 2, 3, 2), BATCHED, axis=2, batch_dims=2),
    ],
    "gather_along_axis": [
        by_place("gather_along_axis", lambda x, i: np.take_along_axis(x, i.astype(int), 1),
                 ints(0, 4, 3, 2, 5), axis=1),
        by_place("gather_along_axis", lambda x, i: np.take_along_axis(x, i.astype(int), -1),
                 ints(-5, 5, 3, 4, 2), ios=15, axis=-1),
    ],
    "gather_nd": [
        by_place("gather_nd", nd, GRID),
        by_place("gather_nd", lambda x, i: np.stack([nd(x[b], i[b]) for b in range(3)]),
                 ints(0, 4, 3, 2, 1), batch_dims=1),
    ],
    "scatter": scattered("scatter", rows_of_axis_1, (2, 4, 3), np.array([3, 0]), (2, 2, 3),
                         axis=1)
    + scattered("scatter", rows_of_axis_1, (2, 4, 3), np.array([1, 1]), (2, 2, 3), ("add",),
                axis=-2),
    "scatter_along_axis": scattered("scatter_along_axis", along_axis_1, (2, 4, 3),
                                    np.array([[[0, 1, 2], [3, 2, 0]], [[1, 0, 0], [2, 3, 1]]]),
                                    (2, 2, 3), axis=1),
    "scatter_nd": scattered("scatter_nd", in_two_axes, (3, 4, 2), GRID, (3, 2)),
    "topk": [
        sorted_row("topk", topk_of(-1, 2, True), k=2),
        sorted_row("topk", topk_of(1, 3, False), k=3, axis=1, ascending=True),
        sorted_row("topk", topk_of(0, 1, True), k=1, axis=0, output_indices_dtype="uint16"),
        sorted_row("topk", lambda x: topk_of(-1, 2, True)(x)[0], k=2, return_indices=False),
    ],
    "argsort": [sorted_row("argsort", lambda x: np.argsort(-x, 1), axis=1),
                sorted_row("argsort", lambda x: np.argsort(x, -1), ascending=True)],
    "reduce_argmax": [sorted_row("reduce_argmax", lambda x: np.argmax(x, -1)),
                      sorted_row("reduce_argmax", lambda x: np.argmax(x, 1, keepdims=True),
                                 axis=1, keep_dims=True, output_dtype="uint16")],
    "reduce_argmin": [sorted_row("reduce_argmin", lambda x: np.argmin(x, 0), axis=0)],
    "one_hot": [
        hot(lambda i: np.eye(4)[i.astype(int)]),
        hot(lambda i: np.moveaxis(np.eye(4)[i.astype(int)], -1, 1) * 3 - 1, 2.0, -1.0, axis=1),
    ],
    "non_zero": [Row({"x": np.array([[0, 2, 0], [1, 0, 3]], np.int32)},
                     lambda mb, t, x: mb.non_zero(x=x), lambda x: np.argwhere(x))],
}  # fmt: skip
