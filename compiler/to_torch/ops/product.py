"""Matrix products and convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run, plain

__all__ = ["OPS"]

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
    "MatMul": plain(torch.matmul),
}
