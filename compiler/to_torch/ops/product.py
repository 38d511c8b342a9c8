"""Matrix products and convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS", "OWN"]

CONVOLUTIONS = {1: (F.conv1d, F.conv_transpose1d), 2: (F.conv2d, F.conv_transpose2d),
                3: (F.conv3d, F.conv_transpose3d)}  # fmt: skip


def gemm(node: OpNode) -> Run:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    turn_a, turn_b = node.get("transA", 0), node.get("transB", 0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        y = (a.t() if turn_a else a) @ (b.t() if turn_b else b)
        y = y if alpha == 1 else alpha * y
        if c is None:
            return y
        return y + (c if beta == 1 else beta * c)

    return run


def linear(node: OpNode) -> Run:
    """Ours (linear.py): x [..,K], w [N,K], b [N]."""
    return F.linear


def matmul(node: OpNode) -> Run:
    """Values [1,h,m,k] and [1,h,k,n] as [h,m,k] and [h,k,n] where the dialect wants three axes."""
    if node.dialect.batched == "matmul" or not (node.has(0) and node.has(1)):
        return torch.matmul
    a, b = node.shape(0), node.shape(1)
    if len(a) != 4 or len(b) != 4 or a[:2] != b[:2]:
        return torch.matmul
    heads = a[0] * a[1]
    flat, whole = ((heads, *a[2:]), (heads, *b[2:])), (*a[:3], b[3])
    return lambda x, y: torch.bmm(x.reshape(flat[0]), y.reshape(flat[1])).reshape(whole)


def einsum(node: OpNode) -> Run:
    equation = node.get("equation")
    return lambda *xs: torch.einsum(equation, *xs)


def _window(node: OpNode) -> tuple[int, dict[str, object], list[int], list[int]]:
    """Spatial rank, what both convolutions share, and padding at the begin and end of each axis."""
    rank = len(node.shape(1)) - 2
    if rank not in CONVOLUTIONS:
        raise Refused(f"a convolution over {rank} axes")
    if (auto := node.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        raise Refused(f"auto_pad = {auto!r} is not supported; write the padding out")
    pads = node.get("pads", [0] * 2 * rank) if auto == "NOTSET" else [0] * 2 * rank
    shared = {
        "stride": node.get("strides", [1] * rank),
        "dilation": node.get("dilations", [1] * rank),
        "groups": node.get("group", 1),
    }
    return rank, shared, pads[:rank], pads[rank:]


def conv(node: OpNode) -> Run:
    rank, window, begins, ends = _window(node)
    even = begins == ends
    around = [n for pair in zip(begins[::-1], ends[::-1], strict=True) for n in pair]
    padding = begins if even else 0

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x if even else F.pad(x, around)
        return CONVOLUTIONS[rank][0](x, weight, bias, padding=padding, **window)

    return run


def conv_transpose(node: OpNode) -> Run:
    rank, window, begins, ends = _window(node)
    if begins != ends or node.get("output_shape"):
        raise Refused("padding that is not the same at both ends, or an output_shape")
    more = node.get("output_padding", [0] * rank)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return CONVOLUTIONS[rank][1](x, weight, bias, padding=begins, output_padding=more, **window)

    return run


OPS: dict[str, Maker] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}
#: ops that are ours and no part's: linear.py writes them
OWN: dict[str, Maker] = {"Linear": linear}
