"""Pictures made larger or smaller. Each of the last two axes is resampled by itself.

A place of the result lies at a point of the old axis, by the formulas that MIL's documentation
gives for each mode, and takes the two numbers around it:
https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html#resize-bilinear
Which neighbour is nearest is not documented, so that is done for whole factors only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Ints, Refused, room

__all__ = ["OPS"]


def _points(old: int, new: int, mode: str) -> Tensor:
    """Where on the old axis each of the new places lies, float64 [new]."""
    places = torch.arange(new, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if new == 1:
            return torch.full((1,), (old - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0).double()
        points = places * (old - 1) / (new - 1)
    elif mode == "DEFAULT":
        points = places * (old - old / new) / max(new - 1, 1)
    elif mode == "OFFSET_CORNERS":
        points = (places + 0.5) * max(1, old - 1) / new
    elif mode == "UNALIGN_CORNERS":
        points = (places + 0.5) * old / new - 0.5
    else:
        raise Refused(f"sampling_mode {mode!r:.40}")
    return points.clamp(0, old - 1)


def _along(x: Tensor, axis: int, new: int, mode: str) -> Tensor:
    """One axis resampled: two neighbours, weighted by their distance."""
    points = _points(x.shape[axis], new, mode)
    low = points.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    share = (points - low).to(x.dtype)
    share = share.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share


def _linear(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    room([*x.shape[:-2], height, width])
    return _along(_along(x, -2, height, mode), -1, width, mode)


def _nearest(x: Tensor, height: int, width: int) -> Tensor:
    room([*x.shape[:-2], height, width])
    for axis, new in ((-2, height), (-1, width)):
        if not new or new % x.shape[axis]:
            raise Refused(f"the nearest of {x.shape[axis]} for {new} places: no whole factor")
        x = x.repeat_interleave(new // x.shape[axis], axis)
    return x


def _scaled(x: Tensor, height: float, width: float) -> tuple[int, int]:
    """Sizes by factors, which are float32 in the program: 7 by 16/7 is 16 and not 15."""
    sizes = np.array(x.shape[-2:], np.float32) * np.array([height, width], np.float32)
    return int(sizes[0]), int(sizes[1])


def resize_bilinear(
    x: Tensor,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    return _linear(x, target_size_height, target_size_width, sampling_mode)


def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Half pixels are the rule without aligned corners; DEFAULT is neither."""
    halves = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and halves:
        raise Refused("aligned corners together with half pixels")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if halves else "DEFAULT"
    return _linear(x, *_scaled(x, scale_factor_height, scale_factor_width), mode)


def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    return _nearest(x, *_scaled(x, scale_factor_height, scale_factor_width))


def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    return _nearest(x, target_size_height, target_size_width)


def resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """The last `resized_dims` of shape, a 0 of which keeps the size."""
    if resized_dims not in (1, 2) or len(shape) < resized_dims:
        raise Refused(f"{resized_dims} axes of shape {list(shape)}")
    wanted = shape[-resized_dims:] if resized_dims == 2 else (0, shape[-1])
    height, width = (n or x.shape[axis] for axis, n in zip((-2, -1), wanted, strict=True))
    if interpolation_mode == "NEAREST_NEIGHBOR":
        return _nearest(x, height, width)
    if interpolation_mode != "LINEAR":
        raise Refused(f"interpolation_mode {interpolation_mode!r:.40}")
    return _linear(x, height, width, sampling_mode)


OPS: dict[str, Handler] = {
    "resize": resize,
    "resize_bilinear": resize_bilinear,
    "resize_nearest_neighbor": resize_nearest_neighbor,
    "upsample_bilinear": upsample_bilinear,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
