"""Windows that slide over pictures [B,C,*spatial] and are folded to a number each.

    begin  x x x x x  end  over        begin, end: padding, which a mean may count
    [ window ]                         over: what ceil_mode's last window reaches beyond it
          [ window ]                         and no mean counts
                  [ window ]

Where torch's own op has the form (the same padding at both ends, none beyond, windows without gaps
for means) it is called with it, which tools know. Else the picture is padded first, and a mean is a
sum divided by counts that are known when compiling.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run
from edgevlm.compiler.to_torch.ops.stored import alike

__all__ = ["OPS"]

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class Windows:
    """Numbers for each spatial axis."""

    sizes: list[int]  # of the input
    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    begin: list[int]
    end: list[int]
    over: list[int]  # behind `end`; negative where the last rows are under no window

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def even(self) -> bool:
        """Whether torch's own ops take the padding."""
        fits = all(2 * b <= k for b, k in zip(self.begin, self.kernel, strict=True))
        return fits and self.begin == self.end and max(self.over) <= 0

    def around(self) -> list[int]:
        """Of F.pad: the last axis first."""
        after = [e + max(o, 0) for e, o in zip(self.end, self.over, strict=True)]
        pairs = zip(self.begin[::-1], after[::-1], strict=True)
        return [n for pair in pairs for n in pair]


def windows(node: OpNode) -> Windows:
    """Raises Refused for more than three spatial axes."""
    sizes, kernel = node.shape(0)[2:], node.get("kernel_shape")
    rank = len(kernel)
    if rank not in MEAN or rank != len(sizes):
        raise Refused(f"windows over {rank} axes of {len(sizes)}")
    stride, dilation = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    pads, auto = node.get("pads", [0] * 2 * rank), node.get("auto_pad", "NOTSET")
    begin, end, over = [], [], []
    for i, (n, s) in enumerate(zip(sizes, stride, strict=True)):
        reach = (kernel[i] - 1) * dilation[i] + 1
        if auto == "NOTSET":
            before, after = pads[i], pads[i + rank]
        elif auto == "VALID":
            before = after = 0
        else:
            total = max((-(-n // s) - 1) * s + reach - n, 0)
            before = total // 2 if auto == "SAME_UPPER" else -(-total // 2)
            after = total - before
        left = n + before + after - reach
        count = left // s + 1
        # a further window for what is left, unless it would begin behind the picture
        if node.get("ceil_mode", 0) and left % s and count * s < n + before:
            count += 1
        begin.append(before)
        end.append(after)
        over.append((count - 1) * s - left)
    return Windows(sizes, kernel, stride, dilation, begin, end, over)


def max_pool(node: OpNode) -> Run:
    node.first_output_only()
    at = windows(node)
    pool, shared = MAX[at.rank], {"stride": at.stride, "dilation": at.dilation}
    if at.even:
        return lambda x: pool(x, at.kernel, padding=at.begin, **shared)

    def run(x: Tensor) -> Tensor:
        lowest = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        return pool(F.pad(x, at.around(), value=lowest), at.kernel, **shared)

    return run


def _means(at: Windows, x: Tensor) -> Tensor:
    """Of windows of a picture that is padded already; windows with gaps by a convolution."""
    if set(at.dilation) == {1}:
        return MEAN[at.rank](x, at.kernel, at.stride)
    ones = torch.ones((1, 1, *at.kernel), dtype=x.dtype, device=x.device)
    single = x.reshape(-1, 1, *x.shape[2:])
    made = CONV[at.rank](single, ones / ones.numel(), stride=at.stride, dilation=at.dilation)
    return made.reshape(*x.shape[:2], *made.shape[2:])


def _shares(at: Windows, padding_counts: bool) -> Tensor:
    """Which part of every window a mean counts, [1,1,*out]."""
    counted = torch.ones((1, 1, *at.sizes), dtype=torch.float64)
    pads = [n for pair in zip(at.begin[::-1], at.end[::-1], strict=True) for n in pair]
    counted = F.pad(counted, pads, value=float(padding_counts))
    beyond = [n for o in at.over[::-1] for n in (0, max(o, 0))]
    return _means(at, F.pad(counted, beyond))


def average_pool(node: OpNode) -> Run:
    """torch's op always counts padding here: Core AI does so even if it is told not to."""
    at, padding_counts = windows(node), bool(node.get("count_include_pad", 0))
    pool, shares = MEAN[at.rank], _shares(at, padding_counts)

    def means(x: Tensor) -> Tensor:
        if at.even and set(at.dilation) == {1}:
            return pool(x, at.kernel, at.stride, at.begin, count_include_pad=True)
        return _means(at, F.pad(x, at.around()))

    if (shares == 1).all():
        return means
    factors = (1 / shares).float()
    return lambda x: means(x) * alike(factors, x)


def lp_pool(node: OpNode) -> Run:
    """(sum of |x|^p)^(1/p); padding is zeros."""
    at, p = windows(node), node.get("p", 2)
    count = torch.Size(at.kernel).numel()

    def run(x: Tensor) -> Tensor:
        powers = x.abs() if p == 1 else x * x if p == 2 else x.abs().pow(p)
        total = _means(at, F.pad(powers, at.around())) * count
        return total if p == 1 else total.sqrt() if p == 2 else total.pow(1 / p)

    return run


def whole(fold: Run) -> Maker:
    """fold(x, axes, keepdims) over all that is spatial."""

    def make(node: OpNode) -> Run:
        axes = tuple(range(2, len(node.shape(0))))
        return lambda x: fold(x, axes, True)

    return make


OPS: dict[str, Maker] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": whole(torch.mean),
    "GlobalMaxPool": whole(torch.amax),
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}
