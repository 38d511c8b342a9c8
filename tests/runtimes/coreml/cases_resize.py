"""Cases of pictures made larger or smaller, against the formulas of MIL's documentation."""

from __future__ import annotations

import numpy as np
from coreml_case_forms import Row, Rows, normal

__all__ = ["CASES"]


def points(old: int, new: int, mode: str) -> list[float]:
    """The formulas of the documentation of resize_bilinear, word by word."""
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if new == 1:
            return [(old - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0]
        raw = [i * (old - 1) / (new - 1) for i in range(new)]
    elif mode == "DEFAULT":
        raw = [i * (old - old / new) / (new - 1) if new > 1 else 0.0 for i in range(new)]
    elif mode == "OFFSET_CORNERS":
        delta = max(1, old - 1) / new
        raw = [0.5 * delta + i * delta for i in range(new)]
    else:
        raw = [i * old / new + 0.5 * old / new - 0.5 for i in range(new)]
    return [min(old - 1, max(0, p)) for p in raw]


def resampled(x, height: int, width: int, mode: str):
    rows, columns = (points(n, m, mode) for n, m in zip(x.shape[-2:], (height, width), strict=True))
    up = np.stack(
        [
            [np.interp(r, np.arange(x.shape[-2]), line) for r in rows]
            for line in x.reshape(-1, *x.shape[-2:]).swapaxes(1, 2).reshape(-1, x.shape[-2])
        ]
    )
    up = up.reshape(-1, x.shape[-1], height).swapaxes(1, 2)
    across = np.stack(
        [
            [np.interp(c, np.arange(x.shape[-1]), line) for c in columns]
            for line in up.reshape(-1, x.shape[-1])
        ]
    )
    return across.reshape(*x.shape[:-2], height, width)


PICTURE = {"x": normal(1, 2, 3, 4)}
MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")


def resized(op: str, want, **options) -> Row:
    return Row(PICTURE, lambda mb, t, x: getattr(mb, op)(x=x, **options), want)


def bilinear(mode: str, height: int, width: int) -> Row:
    return resized(
        "resize_bilinear",
        lambda x: resampled(x, height, width, mode),
        target_size_height=height,
        target_size_width=width,
        sampling_mode=mode,
    )


def upsampled(mode: str, **options) -> Row:
    return resized(
        "upsample_bilinear",
        lambda x: resampled(x, 6, 6, mode),
        scale_factor_height=np.float32(2),
        scale_factor_width=np.float32(1.5),
        **options,
    )


def repeated(x):
    return x.repeat(2, -2).repeat(3, -1)


CASES: dict[str, Rows] = {
    "resize_bilinear": [bilinear(mode, h, w) for mode in MODES for h, w in ((5, 7), (2, 1))],
    "upsample_bilinear": [
        upsampled("STRICT_ALIGN_CORNERS"), upsampled("UNALIGN_CORNERS", align_corners=False),
        upsampled("DEFAULT", align_corners=False, half_pixel_centers=False)],
    "upsample_nearest_neighbor": [resized("upsample_nearest_neighbor", repeated,
                                          scale_factor_height=2, scale_factor_width=3)],
    "resize_nearest_neighbor": [resized("resize_nearest_neighbor", repeated,
                                        target_size_height=6, target_size_width=12)],
    "resize": [resized("resize", lambda x: resampled(x, 5, 4, "UNALIGN_CORNERS"),
                       shape=[5, 0], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
               resized("resize", repeated, shape=[1, 6, 12], resized_dims=np.uint32(2),
                       interpolation_mode="NEAREST_NEIGHBOR")],
}  # fmt: skip
