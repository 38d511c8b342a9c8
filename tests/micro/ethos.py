"""Two small torch programs for an Ethos-U, and inputs for them.

block   a ViT block as the NPU likes it, float: 16 tokens of 48, d 64, 2 heads of 32, hidden 128
cut     int8 already, by hand: two products, a choice of 8 tokens that no NPU makes, one more; what
        is read inside and outside a delegate has one dequantize, as a graph is naturally written
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401  (registers quantized_decomposed)
from torch.nn import functional as F

__all__ = ["BLOCK_MACS", "CUT_MACS", "Block", "Cut", "export_to", "inputs"]

TOKENS, PATCH, D, HEADS, HIDDEN, KEPT, OUT = 16, 48, 64, 2, 128, 8, 32
#: of the products alone, as a person counts them: weights, then queries by keys and by values
BLOCK_MACS = TOKENS * (PATCH * D + 4 * D * D + 2 * D * HIDDEN), 2 * TOKENS * TOKENS * D
#: before the choice, behind it
CUT_MACS = TOKENS * (PATCH * D + D), KEPT * D * OUT

Q = torch.ops.quantized_decomposed


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.first, self.second = nn.Linear(PATCH, D), nn.LayerNorm(D), nn.LayerNorm(D)
        self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))
        self.up, self.down = nn.Linear(D, HIDDEN), nn.Linear(HIDDEN, D)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        normed = self.first(x)
        q, k, v = (
            each(normed).view(1, TOKENS, HEADS, D // HEADS).transpose(1, 2)
            for each in (self.q, self.k, self.v)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) * (D // HEADS) ** -0.5, -1)
        x = x + self.o((weights @ v).transpose(1, 2).reshape(1, TOKENS, D))
        return x + self.down(F.gelu(self.up(self.second(x))))


def through_int8(x: Tensor, scale: float) -> Tensor:
    stored = Q.quantize_per_tensor(x, scale, 0, -128, 127, torch.int8)
    return Q.dequantize_per_tensor(stored, scale, 0, -128, 127, torch.int8)


class Int8Linear(nn.Module):
    """Weights int8 by channel, bias int32 in steps of both scales."""

    def __init__(self, wide: int, high: int, scale: float) -> None:
        super().__init__()
        w = torch.randn(high, wide) * wide**-0.5
        steps = w.abs().amax(1) / 127
        self.register_buffer("w", torch.round(w / steps[:, None]).to(torch.int8))
        self.register_buffer("w_scale", steps)
        self.register_buffer("b_scale", steps * scale)
        self.register_buffer("zero", torch.zeros(high, dtype=torch.int64))
        bias = torch.round(torch.randn(high) * 0.1 / self.b_scale)
        self.register_buffer("b", bias.to(torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        most, zero = 2**31 - 1, self.zero
        w = Q.dequantize_per_channel(self.w, self.w_scale, zero, 0, -127, 127, torch.int8)
        b = Q.dequantize_per_channel(self.b, self.b_scale, zero, 0, -most, most, torch.int32)
        return F.linear(x, w, b)


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.score = Int8Linear(PATCH, D, 0.03), Int8Linear(D, 1, 0.04)
        self.last = Int8Linear(D, OUT, 0.04)

    def forward(self, x: Tensor) -> Tensor:
        x = through_int8(self.patch(through_int8(x, 0.03)), 0.04)
        scores = through_int8(self.score(x), 0.05).squeeze(-1)
        chosen = scores.topk(KEPT, dim=1).indices.unsqueeze(-1).expand(-1, -1, D)
        return through_int8(self.last(through_int8(torch.gather(x, 1, chosen), 0.04)), 0.05)


def inputs(n: int, seed: int) -> list[np.ndarray]:
    """[1, 16, 48] float32, each."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, TOKENS, PATCH), dtype=np.float32) for _ in range(n)]


def export_to(path: str, kind: type[nn.Module]) -> nn.Module:
    """Writes a .pt2; the same weights whenever it is called."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind().eval()
    with torch.no_grad():
        program = torch.export.export(module, (torch.from_numpy(inputs(1, 0)[0]),))
    torch.export.save(program, path)
    return module
