"""Ops that move numbers and compute none. Shapes, axes and ends are constants."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.dtypes import DTYPES, as_torch
from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS"]


def constant(node: OpNode) -> Tensor:
    """A Constant node; as numbers in the attributes, or as a tensor."""
    for kind, dtype in (("float", torch.float32), ("int", torch.int64)):
        for name in (f"value_{kind}", f"value_{kind}s"):
            if (value := node.get(name)) is not None:
                return torch.tensor(value, dtype=dtype)
    tensor = node.get("value")
    if tensor is None or tensor.dtype not in DTYPES:
        raise Refused("it is no tensor of numbers that torch has")
    return as_torch(tensor)


def shape(node: OpNode) -> Tensor:
    return torch.tensor(node.shape(0)[node.get("start", 0) : node.get("end")], dtype=torch.int64)


def reshape(node: OpNode) -> Run:
    """0 keeps the size at its place, unless `allowzero` says that it means 0."""
    sizes, keep = node.ints(1), not node.get("allowzero", 0)

    def run(x: Tensor, _: None) -> Tensor:
        return x.reshape([x.shape[i] if keep and n == 0 else n for i, n in enumerate(sizes)])

    return run


def flatten(node: OpNode) -> Run:
    axis = node.get("axis", 1)

    def run(x: Tensor) -> Tensor:
        rows = x.shape[:axis].numel()
        return x.reshape(rows, x.numel() // max(rows, 1))

    return run


def transpose(node: OpNode) -> Run:
    order = node.get("perm")
    return lambda x: x.permute(order or tuple(reversed(range(x.dim()))))


def concat(node: OpNode) -> Run:
    axis = node.get("axis")
    return lambda *xs: torch.cat(xs, axis)


def expand(node: OpNode) -> Run:
    """Broadcasting goes both ways: a 1 in the shape leaves a longer axis as it is."""
    sizes = node.ints(1)
    return lambda x, _: x.expand(torch.broadcast_shapes(x.shape, sizes))


def squeeze(node: OpNode) -> Run:
    axes = tuple(node.ints(1)) if node.has(1) else None
    ones = tuple(i for i, n in enumerate(node.shape(0)) if n == 1)
    return lambda x, *_: x.squeeze(ones if axes is None else axes)


def unsqueeze(node: OpNode) -> Run:
    """Axes are those of the result."""
    axes = node.ints(1)

    def run(x: Tensor, _: None) -> Tensor:
        for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def split(node: OpNode) -> Run:
    """By sizes, or into equal parts of which the last may be smaller."""
    axis, count = node.get("axis", 0), node.get("num_outputs", len(node.node.outputs))
    sizes = node.ints(1) if node.has(1) else None

    def run(x: Tensor, *_: None) -> tuple[Tensor, ...]:
        return torch.split(x, sizes or -(-x.shape[axis] // count), axis)

    return run


def slice_(node: OpNode) -> Run:
    starts, ends = node.ints(1), node.ints(2)
    axes = node.ints(3) if node.has(3) else list(range(len(starts)))
    steps = node.ints(4) if node.has(4) else [1] * len(starts)
    if min(steps, default=1) < 1:
        raise Refused(f"steps of {steps}: torch goes forwards only")
    sizes = node.shape(0)
    cut = [slice(None)] * len(sizes)
    for axis, *ends_and_step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(*slice(*ends_and_step).indices(sizes[axis]))
    return lambda x, *_: x[tuple(cut)]


def pad(node: OpNode) -> Run:
    node.refuse(mode="constant")
    pads, rank = node.ints(1), len(node.shape(0))
    value = node.constant(2).item() if node.has(2) else 0
    axes = node.ints(3) if node.has(3) else list(range(rank))
    around = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        around[axis] = (pads[i], pads[i + len(axes)])
    flat = [n for pair in reversed(around) for n in pair]
    return lambda x, *_: F.pad(x, flat, value=value)


def _block(node: OpNode) -> int:
    if len(node.shape(0)) != 4:
        raise Refused(f"a picture of {len(node.shape(0))} axes")
    return node.get("blocksize")


def _turn(x: Tensor, rows: int, columns: int) -> Tensor:
    """Channels [rows*columns] as [columns*rows], with no more axes than four."""
    b, c, h, w = x.shape
    return x.reshape(b, rows, columns, h * w).transpose(1, 2).reshape(b, c, h, w)


def depth_to_space(node: OpNode) -> Run:
    """CRD is torch's pixel_shuffle: blocks are within a channel. In DCR channels are in a block."""
    block, depth_first = _block(node), node.get("mode", "DCR") == "DCR"
    channels = node.shape(0)[1] // block**2

    def run(x: Tensor) -> Tensor:
        return F.pixel_shuffle(_turn(x, block**2, channels) if depth_first else x, block)

    return run


def space_to_depth(node: OpNode) -> Run:
    block, channels = _block(node), node.shape(0)[1]
    return lambda x: _turn(F.pixel_unshuffle(x, block), channels, block**2)


def tile(node: OpNode) -> Run:
    counts = node.ints(1)
    return lambda x, _: x.repeat(counts)


def trilu(node: OpNode) -> Run:
    """What is above the k-th diagonal, or below it, and that diagonal; zeros elsewhere."""
    k = node.ints(1)[0] if node.has(1) else 0
    keep = torch.triu if node.get("upper", 1) else torch.tril
    return lambda x, *_: keep(x, k)


OPS: dict[str, Maker] = {
    "Concat": concat,
    "Constant": constant,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Pad": pad,
    "Reshape": reshape,
    "Shape": shape,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
}
