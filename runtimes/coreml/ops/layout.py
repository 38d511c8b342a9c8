"""Ops that move numbers and compute none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import MOST_GIVEN, Handler, Ints, Refused, Tensors, room

__all__ = ["OPS"]


def reshape(x: Tensor, shape: Ints, ios: int = 17) -> Tensor:
    """0 keeps a size: counted from the left up to iOS 16, from the right since, 1 where none is."""
    sizes = list(shape)
    shift = x.dim() - len(sizes) if ios >= 17 else 0
    if ios < 17 and 0 in sizes and len(sizes) != x.dim():
        raise Refused(f"a 0 in shape {sizes} for rank {x.dim()}")
    for i, size in enumerate(sizes):
        if size == 0:
            sizes[i] = x.shape[i + shift] if i + shift >= 0 else 1
    return x.reshape(sizes)


def transpose(x: Tensor, perm: Ints) -> Tensor:
    return x.permute(perm)


def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Axes that are longer than 1 stay."""
    return x.squeeze() if axes is None else x.squeeze(axes)


def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Axes are those of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    rows = x.shape[:axis].numel()
    return x.reshape(rows, x.numel() // max(rows, 1))


def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """interleave: a0 b0 a1 b1 ... along the axis."""
    room([sum(value.numel() for value in values)], MOST_GIVEN)
    if values[0].dim() == 0:
        return torch.stack(values)
    if not interleave:
        return torch.cat(values, axis)
    at = axis % values[0].dim()
    return torch.stack(values, at + 1).flatten(at, at + 1)


def stack(values: Tensors, axis: int) -> Tensor:
    room([sum(value.numel() for value in values)], MOST_GIVEN)
    return torch.stack(values, axis)


def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, list(split_sizes), axis)
    if not num_splits or x.shape[axis] % num_splits:
        raise Refused(f"{x.shape[axis]} in {num_splits} equal parts")
    return torch.split(x, x.shape[axis] // num_splits, axis)


def tile(x: Tensor, reps: Ints) -> Tensor:
    if len(reps) != x.dim():
        raise Refused(f"{len(reps)} repetitions for rank {x.dim()}")
    room([size * count for size, count in zip(x.shape, reps, strict=True)])
    return x.repeat(reps)


def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.flip(tuple(range(x.dim())) if axes is None else axes)


def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """pad: before and after, for each of the last axes. Reflection leaves the edge out."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    around = [(0, 0)] * (x.dim() - len(pairs)) + pairs
    room([size + sum(pair) for size, pair in zip(x.shape, around, strict=True)])
    if mode == "constant":
        return F.pad(x, [n for pair in reversed(around) for n in pair], value=constant_val)
    if mode not in ("reflect", "replicate"):
        raise Refused(f"mode {mode!r:.40}")
    for axis, (before, after) in enumerate(around):
        if before or after:
            x = x.index_select(axis, _mirrored(x.shape[axis], before, after, mode))
    return x


def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """[n, c, h, w] without so many rows at its top and bottom, and columns at its sides."""
    (top, bottom), (left, right) = crop_height, crop_width
    if x.dim() != 4 or min(*crop_height, *crop_width) < 0:
        raise Refused(f"{crop_height} and {crop_width} of {list(x.shape)}")
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def _mirrored(size: int, before: int, after: int, mode: str) -> Tensor:
    """Places along an axis, edges reflected or repeated."""
    if mode == "reflect" and max(before, after) >= size:
        raise Refused(f"reflection of {max(before, after)} on an axis of {size}")
    places = torch.arange(-before, size + after)
    if mode == "reflect":
        return (size - 1 - ((size - 1) - places.abs()).abs()).long()
    return places.clamp(0, size - 1)


def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Zeros outside the diagonals; a negative count keeps them all."""
    x = x if lower < 0 else torch.triu(x, -lower)
    return x if upper < 0 else torch.tril(x, upper)


def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """[n, b*b*c, h, w] -> [n, c, h*b, w*b]: the block is the slow part of the channel."""
    n, c, h, w = x.shape
    b = block_size
    x = x.reshape(n, b, b, c // (b * b), h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """[n, c, h*b, w*b] -> [n, b*b*c, h, w]."""
    n, c, h, w = x.shape
    b = block_size
    x = x.reshape(n, c, h // b, b, w // b, b)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """[n, c*f*f, h, w] -> [n, c, h*f, w*f]: the block is the fast part of the channel."""
    return F.pixel_shuffle(x, upscale_factor)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    return F.pixel_unshuffle(x, downscale_factor)


def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """[.., n, ..] -> [.., windows, size, ..]."""
    at = axis % x.dim()
    return x.unfold(at, size, stride).movedim(-1, at + 1)


OPS: dict[str, Handler] = {
    "band_part": band_part,
    "concat": concat,
    "crop": crop,
    "depth_to_space": depth_to_space,
    "expand_dims": expand_dims,
    "flatten2d": flatten2d,
    "pad": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "reshape": reshape,
    "reverse": reverse,
    "sliding_windows": sliding_windows,
    "space_to_depth": space_to_depth,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
}
