"""Cases of convolutions and pools, against loops over every place."""

from __future__ import annotations

import itertools

import numpy as np
from coreml_case_forms import Row, Rows, normal

__all__ = ["CASES"]


def same(sizes, kernel, strides, dilations, lower=False):
    """Padding of pad_type `same`, as TensorFlow has it: the odd one at the end."""
    pairs = []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pairs.append((total - total // 2, total // 2) if lower else (total // 2, -(-total // 2)))
    return pairs


def slide(x, kernel, strides, dilations, pairs, value=0.0):
    """Yields (place of the result, the window there [n, C, K..])."""
    x = np.pad(x, [(0, 0), (0, 0), *pairs], constant_values=value)
    counts = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    for place in itertools.product(*map(range, counts)):
        cut = tuple(
            slice(p * s, p * s + (k - 1) * d + 1, d)
            for p, s, k, d in zip(place, strides, kernel, dilations, strict=True)
        )
        yield place, x[(slice(None), slice(None), *cut)]


def collected(windows, channels, batch):
    made = list(windows)
    sizes = [max(place[a] for place, _ in made) + 1 for a in range(len(made[0][0]))]
    y = np.zeros((batch, channels, *sizes))
    for place, value in made:
        y[(slice(None), slice(None), *place)] = value
    return y


def convolved(x, w, b, strides, dilations, pairs, groups):
    n, out = x.shape[0], w.shape[0]

    def one(window):
        share = window.reshape(n, groups, -1)
        return np.einsum("ngk,gok->ngo", share, w.reshape(groups, out // groups, -1)).reshape(n, -1)

    found = (
        (place, one(window)) for place, window in slide(x, w.shape[2:], strides, dilations, pairs)
    )
    return collected(found, out, n) + b.reshape(-1, *[1] * (x.ndim - 2))


def conv(x: tuple, w: tuple, pad_type="valid", pad=None, strides=None, dilations=None, groups=1):
    rank = len(x) - 2
    s, d = strides or [1] * rank, dilations or [1] * rank
    weight, bias = normal(*w, seed=1), normal(w[0], seed=2)
    options = {"pad_type": pad_type, "strides": s, "dilations": d, "groups": groups}
    if pad:
        options["pad"] = pad
    pairs = [(0, 0)] * rank if pad is None else list(zip(pad[::2], pad[1::2], strict=True))
    if pad_type.startswith("same"):
        pairs = same(x[2:], w[2:], s, d, pad_type == "same_lower")

    def build(mb, t, x):
        return mb.conv(x=x, weight=t(weight), bias=t(bias), **options)

    return Row(
        {"x": normal(*x)},
        build,
        lambda x, w, b: convolved(x, w, b, s, d, pairs, groups),
        more={"w": weight, "b": bias},
    )


def spread_out(x, w, b, strides, dilations, groups, cut):
    """Every number of x adds its kernel to the result, from which `cut` is taken."""
    n, c, rank = x.shape[0], x.shape[1], x.ndim - 2
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [(m - 1) * s + r for m, s, r in zip(x.shape[2:], strides, reach, strict=True)]
    y = np.zeros((n, groups, w.shape[1], *full))
    for place in itertools.product(*map(range, x.shape[2:])):
        at = tuple(
            slice(p * s, p * s + r, d)
            for p, s, r, d in zip(place, strides, reach, dilations, strict=True)
        )
        numbers = x[(slice(None), slice(None), *place)].reshape(n, groups, c // groups)
        kernels = w.reshape(groups, c // groups, w.shape[1], *w.shape[2:])
        y[(slice(None), slice(None), slice(None), *at)] += np.einsum(
            "ngc,gco...->ngo...", numbers, kernels
        )
    y = y.reshape(n, -1, *full)
    y = np.pad(y, [(0, 0), (0, 0), *[(0, 9)] * rank])  # output_shape may go beyond
    y = y[(slice(None), slice(None), *(slice(a, a + size) for a, size in cut(full)))]
    return y + b.reshape(-1, *[1] * rank)


def transposed(x: tuple, w: tuple, cut, groups=1, strides=None, dilations=None, **options) -> Row:
    rank = len(x) - 2
    s, d = strides or [1] * rank, dilations or [1] * rank
    weight, bias = normal(*w, seed=1), normal(w[1] * groups, seed=2)

    def build(mb, t, x):
        return mb.conv_transpose(
            x=x, weight=t(weight), bias=t(bias), strides=s, dilations=d, groups=groups, **options
        )

    return Row(
        {"x": normal(*x)},
        build,
        lambda x, w, b: spread_out(x, w, b, s, d, groups, cut),
        more={"w": weight, "b": bias},
    )


def all_of_it(full):
    return [(0, n) for n in full]


def pool(op: str, x: tuple, kernel, strides, pad_type="valid", pad=None, **options) -> Row:
    rank = len(kernel)
    pairs = [(0, 0)] * rank if pad is None else list(zip(pad[::2], pad[1::2], strict=True))
    ones = [1] * rank
    if pad_type.startswith("same"):
        pairs = same(x[2:], kernel, strides, ones, pad_type == "same_lower")
    outside = options.get("exclude_padding_from_average") or op == "max_pool"

    def build(mb, t, x):
        more = {**options, **({"pad": pad} if pad else {})}
        return getattr(mb, op)(x=x, kernel_sizes=kernel, strides=strides, pad_type=pad_type, **more)

    def want(x):
        fold = np.nanmax if op == "max_pool" else np.nanmean
        windows = slide(x, kernel, strides, ones, pairs, np.nan if outside else 0.0)
        axes = tuple(range(2, 2 + rank))
        return collected(((p, fold(v, axis=axes)) for p, v in windows), x.shape[1], x.shape[0])

    return Row({"x": normal(*x)}, build, want)


def ceiled(op: str, want_shape: tuple) -> Row:
    """A last window that hangs over the edge, by pad_type valid."""

    def build(mb, t, x):
        return getattr(mb, op)(x=x, kernel_sizes=[3], strides=[2], pad_type="valid", ceil_mode=True)

    def want(x):
        fold = np.max if op == "max_pool" else np.mean
        return np.stack([fold(x[..., i : i + 3], -1) for i in range(0, 2 * want_shape[-1], 2)], -1)

    return Row({"x": normal(1, 2, 6)}, build, want)


CASES: dict[str, Rows] = {
    "conv": [
        conv((1, 3, 8, 9), (4, 3, 2, 3), strides=[2, 3]),
        conv((2, 4, 8, 8), (6, 2, 3, 3), "custom", [1, 0, 2, 1], groups=2, dilations=[2, 1]),
        conv((1, 3, 7, 6), (2, 3, 4, 3), "same", strides=[2, 2]),
        conv((1, 3, 7, 6), (2, 3, 4, 3), "same_lower", strides=[2, 1]),
        conv((1, 4, 9), (4, 1, 3), "custom", [2, 1], strides=[2], groups=4),
        conv((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), "custom", [1, 0, 0, 1, 0, 0]),
    ],
    "conv_transpose": [
        transposed((1, 2, 3, 4), (2, 3, 3, 2), all_of_it, strides=[2, 3]),
        transposed((1, 4, 3, 4), (4, 1, 3, 3), lambda full: [(1, full[0] - 3), (0, full[1] - 1)],
                   groups=2, strides=[2, 1], pad_type="custom", pad=[1, 2, 0, 1]),
        transposed((1, 2, 3, 3), (2, 2, 3, 3), lambda full: [(1, 6), (1, 6)], strides=[2, 2],
                   pad_type="custom", pad=[1, 1, 1, 1], output_shape=[1, 2, 6, 6]),
        transposed((1, 2, 3, 3), (2, 2, 3, 3), lambda full: [(0, 6), (0, 6)], strides=[2, 2],
                   pad_type="same"),
        transposed((1, 2, 5), (2, 3, 3), all_of_it, dilations=[2]),
    ],
    "max_pool": [pool("max_pool", (1, 2, 5, 6), [2, 3], [2, 1]),
                 pool("max_pool", (1, 2, 5, 6), [3, 3], [2, 2], "custom", [1, 0, 0, 1]),
                 pool("max_pool", (1, 2, 6), [3], [2], "same"), ceiled("max_pool", (1, 2, 3))],
    "avg_pool": [pool("avg_pool", (1, 2, 5, 6), [2, 3], [2, 1]),
                 pool("avg_pool", (1, 2, 5, 6), [3, 3], [2, 2], "custom", [1, 0, 0, 1]),
                 pool("avg_pool", (1, 2, 6), [3], [2], "same_lower",
                      exclude_padding_from_average=True), ceiled("avg_pool", (1, 2, 3))],
}  # fmt: skip
