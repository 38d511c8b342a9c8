"""Cases of ops that move numbers or make them from sizes."""

from __future__ import annotations

import numpy as np
import torch
from coreml_case_forms import Row, Rows, ints, normal

__all__ = ["CASES"]

X = {"x": normal(2, 3, 4)}
PICTURE = {"x": normal(2, 8, 4, 6)}


def moved(op: str, function, feeds: dict[str, np.ndarray] | None = None, ios: int = 18,
          **options: object) -> Row:  # fmt: skip
    def build(mb, t, x):
        return getattr(mb, op)(x=x, **options)

    return Row(X if feeds is None else feeds, build, function, ios=ios)


def shaped(shape: list[int], want: tuple[int, ...], ios: int = 18, x: tuple = (2, 3, 4)) -> Row:
    return moved("reshape", lambda x: x.reshape(want), {"x": normal(*x)}, ios, shape=shape)


def joined(op: str, function, **options: object) -> Row:
    feeds = {"a": normal(2, 3, 4), "b": normal(2, 3, 4, seed=1), "c": normal(2, 3, 4, seed=2)}

    def build(mb, t, a, b, c):
        return getattr(mb, op)(values=[a, b, c], **options)

    return Row(feeds, build, lambda a, b, c: function([a, b, c]))


def half_constant(mb, t, x):
    """A list of values of which some are constants."""
    return mb.concat(values=[t(np.ones((2, 1, 4))), x, t(np.zeros((2, 2, 4)))], axis=1)


def padded(mode: str, pads: list[int], value: float = 0.0) -> Row:
    def build(mb, t, x):
        more = {"constant_val": t(value)} if mode == "constant" else {}
        return mb.pad(x=x, pad=pads, mode=mode, **more)

    pairs = [(0, 0)] * (3 - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True))
    how = {"constant": {"mode": "constant", "constant_values": value},
           "reflect": {"mode": "reflect"}, "replicate": {"mode": "edge"}}[mode]  # fmt: skip
    return Row(X, build, lambda x: np.pad(x, pairs, **how))


def depth_to_space(x, b=2):
    """TensorFlow's: tf.nn.depth_to_space in NCHW, written place by place."""
    n, c, h, w = x.shape
    y = np.zeros((n, c // b**2, h * b, w * b))
    for channel in range(c):
        block, out = divmod(channel, c // b**2)
        y[:, out, block // b :: b, block % b :: b] = x[:, channel]
    return y


def space_to_depth(x, b=2):
    return np.concatenate([x[:, :, i::b, j::b] for i in range(b) for j in range(b)], axis=1)


def windows(x):
    return np.stack([x[:, i : i + 2] for i in (0, 1)], 1)


def ranged(first: float, last: float, step: float, kind=None) -> Row:
    """The start is computed, so that nothing is folded away."""

    def build(mb, t, s):
        t = kind or t
        return mb.range_1d(start=mb.squeeze(x=s), end=t(last), step=t(step))

    start = np.array([first], kind or np.float64)
    return Row({"s": start}, build, lambda s: np.arange(first, last, step))


def as_torch(function):
    return lambda x: function(torch.from_numpy(x)).numpy()


CASES: dict[str, Rows] = {
    "reshape": [
        shaped([6, 4], (6, 4)), shaped([-1, 4], (6, 4)), shaped([0, -1], (3, 8)),
        shaped([1, 0, -1, 0], (1, 1, 6, 4), x=(6, 4)),  # zeros are counted from the right
        shaped([0, 2, -1], (2, 2, 6), ios=16),  # and from the left before iOS 17
        shaped([0, -1, 4], (2, 3, 4), ios=15),
    ],
    "transpose": [moved("transpose", lambda x: x.transpose(2, 0, 1), perm=[2, 0, -2])],
    "squeeze": [
        moved("squeeze", lambda x: x.reshape(3, 4), {"x": normal(1, 3, 1, 4)}, axes=[0, -2]),
        moved("squeeze", lambda x: x.reshape(3, 4), {"x": normal(1, 3, 1, 4)}),
    ],
    "expand_dims": [moved("expand_dims", lambda x: x[None, :, :, None], axes=[0, 3]),
                    moved("expand_dims", lambda x: x.reshape(2, 1, 3, 4, 1), axes=[-1, 1])],
    "flatten2d": [moved("flatten2d", lambda x: x.reshape(2, 12)),
                  moved("flatten2d", lambda x: x.reshape(6, 4), axis=-1)],
    "concat": [joined("concat", lambda v: np.concatenate(v, -2), axis=-2),
               joined("concat", lambda v: np.stack(v, 2).reshape(2, 9, 4), axis=1,
                      interleave=True),
               Row(X, half_constant, lambda x: np.concatenate(
                   [np.ones((2, 1, 4)), x, np.zeros((2, 2, 4))], 1))],
    "stack": [joined("stack", lambda v: np.stack(v, 1), axis=1),
              joined("stack", lambda v: np.stack(v, -1), axis=-1)],
    "split": [moved("split", lambda x: tuple(np.split(x, 2, -1)), num_splits=2, axis=-1),
              moved("split", lambda x: tuple(np.split(x, [1], 2)), split_sizes=[1, 3], axis=2)],
    "tile": [moved("tile", lambda x: np.tile(x, (2, 1, 3)), reps=[2, 1, 3])],
    "reverse": [moved("reverse", lambda x: x[::-1, :, ::-1], axes=[0, -1]),
                moved("reverse", lambda x: x[::-1, ::-1, ::-1])],
    "pad": [padded("constant", [1, 2, 0, 3], 0.5), padded("constant", [1, 0, 0, 1, 2, 0]),
            padded("reflect", [1, 2, 3, 2]), padded("replicate", [2, 1, 1, 3])],
    "crop": [moved("crop", lambda x: x[:, :, 1:2, 0:4], PICTURE, crop_height=[1, 2],
                   crop_width=[0, 2])],
    "band_part": [moved("band_part", lambda x: np.triu(np.tril(x, 2), -1), lower=1, upper=2),
                  moved("band_part", np.triu, lower=0, upper=-1)],
    "depth_to_space": [moved("depth_to_space", depth_to_space, PICTURE, block_size=2)],
    "space_to_depth": [moved("space_to_depth", space_to_depth, PICTURE, block_size=2)],
    "pixel_shuffle": [moved("pixel_shuffle", as_torch(torch.nn.PixelShuffle(2)), PICTURE,
                            upscale_factor=2)],
    "pixel_unshuffle": [moved("pixel_unshuffle", as_torch(torch.nn.PixelUnshuffle(2)), PICTURE,
                              downscale_factor=np.uint32(2))],
    "sliding_windows": [moved("sliding_windows", windows, axis=1, size=2)],
    "fill": [Row({"s": np.array([2, 3], np.int32)},
                 lambda mb, t, s: mb.fill(shape=s, value=t(1.5)), lambda s: np.full((2, 3), 1.5))],
    "fill_like": [Row(X, lambda mb, t, x: mb.fill_like(ref_tensor=x, value=t(-2.0)),
                      lambda x: np.full(x.shape, -2.0))],
    "range_1d": [ranged(1, 9, 3, np.int32), ranged(0.5, -2, -0.75), ranged(0, 1, 0.25)],
    "shape": [Row({"x": ints(0, 3, 2, 5)}, lambda mb, t, x: mb.shape(x=x),
                  lambda x: np.array(x.shape))],
}  # fmt: skip
