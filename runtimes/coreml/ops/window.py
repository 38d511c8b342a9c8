"""Ops that slide a window along 1 to 3 axes: convolutions and pools. x is [n, C, D..].

pad_type: valid (none), custom (`pad`: before and after, an axis each), same (so much that the
result has ceil(D / stride) places; an odd one at the end), same_lower (an odd one at the begin).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Ints, Refused, room

__all__ = ["OPS"]

CONVOLUTIONS = {1: (F.conv1d, F.conv_transpose1d), 2: (F.conv2d, F.conv_transpose2d),
                3: (F.conv3d, F.conv_transpose3d)}  # fmt: skip
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}

Pairs = list[tuple[int, int]]


def _rank(x: Tensor) -> int:
    if (rank := x.dim() - 2) not in CONVOLUTIONS:
        raise Refused(f"a window over {rank} axes")
    return rank


def _pairs(kind: str, pad: Ints | None, sizes: Ints, kernel: Ints, strides: Ints) -> Pairs:
    """Before and after, for each axis. kernel: with its dilation."""
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom" and pad is not None and len(pad) == 2 * len(sizes):
        return [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    if kind not in ("same", "same_lower"):
        raise Refused(f"pad_type {kind!r:.40} with pad {pad}")
    pairs = []
    for size, reach, step in zip(sizes, kernel, strides, strict=True):
        total = max(0, -(-size // step) * step - size + reach - step)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if kind == "same" else (large, small))
    return pairs


def _padded(x: Tensor, pairs: Pairs, value: float = 0.0) -> Tensor:
    """Padded; cut where a pair is negative."""
    room([*x.shape[:2], *(n + sum(p) for n, p in zip(x.shape[2:], pairs, strict=True))])
    flat = [n for pair in reversed(pairs) for n in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def _reach(weight: Tensor, dilations: Ints) -> Ints:
    return tuple((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True))


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """weight [o, C / groups, K..]."""
    rank = _rank(x)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    pairs = _pairs(pad_type, pad, tuple(x.shape[2:]), _reach(weight, dilations), strides)
    run = CONVOLUTIONS[rank][0]
    x = _padded(x, pairs)
    return run(x, weight, bias, stride=strides, dilation=dilations, groups=groups)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """weight [C, o / groups, K..]. Padding is cut from the result; output_shape is its size."""
    rank = _rank(x)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    reach = _reach(weight, dilations)
    full = [(n - 1) * s + r for n, s, r in zip(x.shape[2:], strides, reach, strict=True)]
    room([x.shape[0], weight.shape[1] * groups, *full])
    if output_shape is not None:
        if pad_type != "custom" or pad is None or len(output_shape) != x.dim():
            raise Refused(f"output_shape {output_shape} with pad_type {pad_type!r:.40}")
        begins = pad[::2]
        cuts = [(b, f - b - n) for b, f, n in zip(begins, full, output_shape[2:], strict=True)]
    elif pad_type == "same":
        more = [f - n * s for f, n, s in zip(full, x.shape[2:], strides, strict=True)]
        if min(more) < 0:
            raise Refused("pad_type same with strides larger than the kernel")
        cuts = [(n // 2, n - n // 2) for n in more]
    else:
        cuts = _pairs(pad_type, pad, tuple(full), reach, strides)
    run = CONVOLUTIONS[rank][1]
    y = run(x, weight, stride=strides, dilation=dilations, groups=groups)
    y = _padded(y, [(-before, -after) for before, after in cuts])
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    rank = _rank(x)
    strides = strides or (1,) * rank
    pairs = _pairs(pad_type, pad, tuple(x.shape[2:]), kernel_sizes, strides)
    if ceil_mode:
        return MAXIMA[rank](x, kernel_sizes, strides, _even(pairs), ceil_mode=True)
    return MAXIMA[rank](_padded(x, pairs, float("-inf")), kernel_sizes, strides)


def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> Tensor:
    rank = _rank(x)
    strides = strides or (1,) * rank
    pairs = _pairs(pad_type, pad, tuple(x.shape[2:]), kernel_sizes, strides)
    run = AVERAGES[rank]
    if ceil_mode:
        count = not exclude_padding_from_average
        return run(x, kernel_sizes, strides, _even(pairs), ceil_mode=True, count_include_pad=count)
    y = run(_padded(x, pairs), kernel_sizes, strides)
    if not exclude_padding_from_average:
        return y
    return y / run(_padded(torch.ones_like(x), pairs), kernel_sizes, strides)


def _even(pairs: Pairs) -> list[int]:
    if any(before != after for before, after in pairs):
        raise Refused("ceil_mode with padding that is not the same at both ends")
    return [before for before, _ in pairs]


OPS: dict[str, Handler] = {
    "avg_pool": avg_pool,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "max_pool": max_pool,
}
