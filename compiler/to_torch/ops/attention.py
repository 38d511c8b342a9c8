"""Attention and rotary positions, written out: two products and a softmax.

scaled_dot_product_attention is used where a dialect asks for it: what it becomes in torch.export is
not what most mobile backends take. Else heads that share keys are rows of one product, so that keys
are not repeated.
https://onnx.ai/onnx/operators/onnx__Attention.html
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.masked_attention import NEVER
from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS"]


def attention(node: OpNode) -> Run:
    """q [B,H,S,d], k [B,H/g,T,d], v [B,H/g,T,e] -> [B,H,S,e]; or [B,S,H*d] with counts of heads."""
    node.first_output_only()
    node.refuse(softcap=0.0)
    if node.has(4) or node.has(5):
        raise Refused("caches inside attention; parts have them as inputs and outputs")
    scale, causal = node.get("scale"), bool(node.get("is_causal", 0))
    flat = len(node.shape(0)) == 3
    q_heads, kv_heads = node.get("q_num_heads"), node.get("kv_num_heads")
    softmax = _softmax if node.dialect.attention == "safe" else _plain_softmax
    fused = node.dialect.attention == "sdpa"

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *_: None) -> Tensor:
        if flat:
            q, k, v = (_heads(x, n) for x, n in ((q, q_heads), (k, kv_heads), (v, kv_heads)))
        batch, heads, rows, width = q.shape
        by_keys = (batch, k.shape[1], -1)
        factor = width**-0.5 if scale is None else scale
        if fused and width == v.shape[3]:  # tools have it for these alone
            bias = _bias(mask, causal, (rows, k.shape[2]), q.dtype)
            y = F.scaled_dot_product_attention(
                q, k, v, bias, scale=factor, enable_gqa=heads != k.shape[1]
            )
            return y.transpose(1, 2).reshape(batch, rows, -1) if flat else y
        scores = (q * factor).reshape(*by_keys, width) @ k.transpose(2, 3)
        scores = scores.reshape(batch, heads, rows, k.shape[2])
        weights = softmax(scores, mask, causal)
        y = weights.reshape(*by_keys, k.shape[2]) @ v
        y = y.reshape(batch, heads, rows, v.shape[3])
        return y.transpose(1, 2).reshape(batch, rows, -1) if flat else y

    return run


def _softmax(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Weights [B,H,S,T]. A row that may look at nothing gets zeros, and has gradients of zero."""
    allowed = None
    if mask is not None and mask.dtype == torch.bool:
        allowed = mask
    elif mask is not None:
        scores, allowed = scores + mask, mask != float("-inf")
    if causal:  # row r looks at keys 0 to r
        rows, keys = (torch.arange(n, device=scores.device) for n in scores.shape[2:])
        seen = rows[:, None] >= keys
        allowed = seen if allowed is None else allowed & seen
    if allowed is None:
        return torch.softmax(scores, -1)
    # the lowest number rather than -inf: the softmax of a row of -inf is no number
    scores = torch.where(allowed, scores, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, -1) * allowed


def _plain_softmax(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same for rows that may look at something: one addition in front of the softmax.

    What is added is made once where it hangs on no input, so that backends see a constant.
    """
    bias = _bias(mask, causal, scores.shape[2:], scores.dtype)
    return torch.softmax(scores if bias is None else scores + bias, -1)


def _bias(
    mask: Tensor | None, causal: bool, shape: Sequence[int], dtype: torch.dtype
) -> Tensor | None:
    """What is added to scores [..,S,T], whose last axes are `shape`; None for nothing."""
    bias = mask
    if mask is not None and mask.dtype == torch.bool:
        bias = torch.where(mask, 0.0, NEVER).to(dtype)
    if causal:
        seen = torch.ones(shape, dtype=torch.bool).tril()
        never = torch.where(seen, 0.0, NEVER).to(dtype)
        bias = never if bias is None else bias + never
    return bias


def _heads(x: Tensor, count: int) -> Tensor:
    """[B,S,H*d] -> [B,H,S,d]."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def rotary(node: OpNode) -> Run:
    """x [B,H,S,d] or [B,S,H*d]; cos, sin [B,S,r/2], or [P,r/2] and positions [B,S].

    The first r of d channels turn; a pair is (i, i + r/2), or (2i, 2i + 1) where interleaved.
    """
    interleaved, part = node.get("interleaved", 0), node.get("rotary_embedding_dim", 0)
    flat, count = len(node.shape(0)) == 3, node.get("num_heads", 0)
    if flat and not count:
        raise Refused("[batch, token, channel] without num_heads")

    def run(x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
        whole = x.shape
        x = _heads(x, count) if flat else x
        if places is not None:
            cos, sin = (table[places] for table in (cos, sin))
        cos, sin = (table.reshape(table.shape[0], 1, *table.shape[1:]) for table in (cos, sin))
        width = part or x.shape[3]
        turned, rest = (x, None) if width == x.shape[3] else (x[..., :width], x[..., width:])
        if interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
        else:
            a, b = turned[..., : width // 2], turned[..., width // 2 :]
        pair = a * cos - b * sin, a * sin + b * cos
        y = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
        if rest is not None:
            y = torch.cat((y, rest), -1)
        return y.transpose(1, 2).reshape(whole) if flat else y

    return run


OPS: dict[str, Maker] = {"Attention": attention, "RotaryEmbedding": rotary}
