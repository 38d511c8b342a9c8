"""Small ViTs with fused projections, and both of torch's exporters; imported by tests only."""

from __future__ import annotations

import io
import warnings

import onnx
import onnx_ir as ir
import torch
from torch import nn
from torch.nn import functional as F

from edgevlm.compiler.shapes import infer_shapes

__all__ = ["BLOCKS", "TinyVit", "by_dynamo", "by_torchscript"]


class Fused(nn.Module):
    """One product for q, k and v, divided as a family does."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def divided(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.divided(self.qkv(x))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Timm(Fused):
    """timm, DINOv2: reshape to five axes, permute, unbind."""

    def divided(self, y):
        batch, tokens, width = y.shape
        five = y.reshape(batch, tokens, 3, self.heads, width // 3 // self.heads)
        return five.permute(2, 0, 3, 1, 4).unbind(0)


class Indexed(Fused):
    """Older DeiT, Swin: the same, by index."""

    def divided(self, y):
        batch, tokens, width = y.shape
        five = y.reshape(batch, tokens, 3, self.heads, width // 3 // self.heads)
        five = five.permute(2, 0, 3, 1, 4)
        return five[0], five[1], five[2]


class Chunked(Fused):
    """q, k and v as thirds of the channels, as in Phi and OpenCLIP's text tower."""

    def divided(self, y):
        batch, tokens, width = y.shape
        shape = batch, tokens, self.heads, width // 3 // self.heads
        return tuple(each.reshape(shape).transpose(1, 2) for each in y.chunk(3, dim=-1))


class Interleaved(Fused):
    """BLOOM, GPT-NeoX: a head's q, k and v next to each other."""

    def divided(self, y):
        batch, tokens, width = y.shape
        heads = y.view(batch, tokens, self.heads, width // self.heads)
        return heads.transpose(1, 2).chunk(3, dim=-1)


class Grouped(nn.Module):
    """InternLM2: groups of query heads, each followed by its key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.keys, self.group, self.each = heads // 2, 2, width // heads
        self.wqkv = nn.Linear(width, self.keys * (self.group + 2) * self.each, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        y = self.wqkv(x).view(batch, tokens, self.keys, self.group + 2, self.each)
        q = y[..., : self.group, :].reshape(batch, tokens, -1, self.each).transpose(1, 2)
        k, v = (y[..., i, :].transpose(1, 2) for i in (-2, -1))
        k, v = (e.repeat_interleave(self.group, dim=1) for e in (k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Multihead(nn.Module):
    """CLIP: torch's own nn.MultiheadAttention with its in_proj_weight."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


BLOCKS = {
    "timm": Timm,
    "indexed": Indexed,
    "chunked": Chunked,
    "interleaved": Interleaved,
    "grouped": Grouped,
    "multihead": Multihead,
}


class Block(nn.Module):
    def __init__(self, attention: type[nn.Module], width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.attention = attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class TinyVit(nn.Module):
    """pixel_values [1,3,S,S] -> features [1,N,width]."""

    def __init__(self, kind: str = "timm", size=32, patch=8, width=24, heads=4, blocks=2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.place = nn.Parameter(torch.randn(1, (size // patch) ** 2, width) * 0.1)
        self.blocks = nn.ModuleList([Block(BLOCKS[kind], width, heads) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.example = torch.randn(1, 3, size, size)
        self.eval()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        x = self.patch(pixel_values).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def by_dynamo(model: TinyVit) -> ir.Model:
    """torch.export's graph, opset 23."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            model,
            (model.example,),
            dynamo=True,
            opset_version=23,
            verbose=False,
            input_names=["pixel_values"],
        )
    return infer_shapes(ir.from_proto(made.model_proto))


def by_torchscript(model: TinyVit) -> ir.Model:
    """The older exporter's, opset 20; deprecated, and in many files that are about."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (model.example,),
            file,
            dynamo=False,
            opset_version=20,
            input_names=["pixel_values"],
        )
    return infer_shapes(ir.from_proto(onnx.load_from_string(file.getvalue())))
