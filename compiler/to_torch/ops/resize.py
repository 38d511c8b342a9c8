"""Resize: every axis by a stored table, so that each mode of ONNX is exact everywhere.

    place of pixel i in the picture before:  p = f(i), by coordinate_transformation_mode
    nearest         y[i] = x[round(p)]                 one index a pixel      -> index_select
    linear, cubic   y[i] = sum of w[i,j] * x[j]        a matrix [new, old]    -> linear

torch's interpolate has other places for some modes and no table for others. Places are computed in
float32, as ONNX Runtime does: where two pixels are equally near, the last bit decides.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.dtypes import DTYPES
from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run
from edgevlm.compiler.to_torch.ops.stored import alike, beside

__all__ = ["OPS"]

ROUND = {
    "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
    "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


def places(old: int, new: int, scale: np.float32, mode: str) -> np.ndarray:
    """float32 [new]: where pixels of the result are between those of x, which count from zero."""
    i, half = np.arange(new, dtype=np.float32), np.float32(0.5)
    match mode:
        case "half_pixel":
            return (i + half) / scale - half
        case "pytorch_half_pixel":
            return (i + half) / scale - half if new > 1 else np.zeros(1, np.float32)
        case "half_pixel_symmetric":
            share = np.float32(new) / (scale * np.float32(old))
            offset = np.float32(old) / np.float32(2) * (np.float32(1) - share)
            return offset + (i + half) / scale - half
        case "align_corners":
            return i * np.float32(old - 1) / np.float32(new - 1) if new > 1 else i
        case "asymmetric":
            return i / scale
    raise Refused(f"coordinate_transformation_mode = {mode!r} is not supported")


def weights(p: np.ndarray, old: int, mode: str, a: float, outside: bool) -> np.ndarray:
    """float32 [new, old]: how much every pixel of x counts. Beyond the edge its pixel goes on;
    with `outside`, of cubic ones, what would be there is left out and the rest counts more."""
    if mode == "linear":
        p = np.clip(p, 0, old - 1)
    base = np.floor(p)
    s = (p - base).astype(np.float64)
    if mode == "linear":
        taps = {0: 1 - s, 1: s}
    else:
        near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1  # noqa: E731
        far = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a  # noqa: E731
        taps = {-1: far(1 + s), 0: near(s), 1: near(1 - s), 2: far(2 - s)}
    table, rows = np.zeros((len(p), old)), np.arange(len(p))
    for step, part in taps.items():
        at = base.astype(np.int64) + step
        part = np.where((at < 0) | (at >= old), 0, part) if outside else part
        np.add.at(table, (rows, np.clip(at, 0, old - 1)), part)
    if outside:
        table /= table.sum(1, keepdims=True)
    return table.astype(np.float32)


def _sizes(node: OpNode) -> dict[int, tuple[int, np.float32]]:
    """axis -> its new size and what it grows by, as node says in scales or in sizes."""
    shape = node.shape(0)
    axes = [a % len(shape) for a in node.get("axes", range(len(shape)))]
    old = [shape[a] for a in axes]
    if node.has(3) and (new := node.ints(3)):
        if node.has(2):
            node.constant(2)  # empty
        scales = [np.float32(n) / np.float32(o) for n, o in zip(new, old, strict=True)]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            scale = min(scales) if policy == "not_larger" else max(scales)
            scales, new = [scale] * len(old), [math.floor(scale * o + 0.5) for o in old]
    else:
        scales = [np.float32(s) for s in node.constant(2).tolist()]
        new = [math.floor(s * np.float32(o)) for s, o in zip(scales, old, strict=True)]
    return dict(zip(axes, zip(new, scales, strict=True), strict=True))


def _picked(index: Tensor, axis: int) -> Run:
    return lambda x: x.index_select(axis, beside(index, x))


def _mixed(table: Tensor, axis: int) -> Run:
    def run(x: Tensor) -> Tensor:
        if axis == x.dim() - 1:
            return F.linear(x, alike(table, x))
        return F.linear(x.transpose(axis, -1), alike(table, x)).transpose(axis, -1)

    return run


def resize(node: OpNode) -> Run:
    node.refuse(antialias=0)
    mode, outside = node.get("mode", "nearest"), bool(node.get("exclude_outside", 0))
    if outside and mode == "linear":
        raise Refused("exclude_outside of a linear mode, which runtimes read in two ways")
    if mode != "nearest" and not node.dtype(0).is_floating_point():
        raise Refused(f"it interpolates {node.dtype(0).name}")
    if node.has(1):
        node.read.add(1)  # the region, of tf_crop_and_resize alone
    kind = node.get("coordinate_transformation_mode", "half_pixel")
    shape, calls = node.shape(0), []
    for axis, (new, scale) in _sizes(node).items():
        old = shape[axis]
        if new == old and scale == 1:
            continue
        p = places(old, new, scale, kind)
        if mode == "nearest":
            at = np.clip(ROUND[node.get("nearest_mode", "round_prefer_floor")](p), 0, old - 1)
            calls.append(_picked(torch.from_numpy(at.astype(np.int64)), axis))
        else:
            table = weights(p, old, mode, node.get("cubic_coeff_a", -0.75), outside)
            calls.append(_mixed(torch.from_numpy(table).to(DTYPES[node.dtype(0)]), axis))

    def run(x: Tensor, *_: None) -> Tensor:
        for call in calls:
            x = call(x)
        return x

    return run


OPS: dict[str, Maker] = {"Resize": resize}
