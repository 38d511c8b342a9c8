"""The classifier: a plain ViT behind a stem of three convolutions (2106.14881).

picture [B,3,28,28] -> 14 x 14 -> 7 x 7 = 49 tokens and CLS -> blocks -> norm -> logits [B,10]

A single patch projection learns slowly from 55,000 small pictures; the stem sees edges at once. Its
batch norms are part of training alone: `folded` has none.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgevlm.models.zoo.fashion_mnist.config import VIT, Vit

__all__ = ["Classifier"]


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the stream."""

    def __init__(self, vit: Vit) -> None:
        super().__init__()
        self.heads = vit.heads
        self.norm1, self.norm2 = nn.LayerNorm(vit.width), nn.LayerNorm(vit.width)
        self.q, self.k, self.v, self.out = (nn.Linear(vit.width, vit.width) for _ in range(4))
        self.up = nn.Linear(vit.width, vit.hidden)
        self.down = nn.Linear(vit.hidden, vit.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm1(x)
        q, k, v = (self._split(f(h)) for f in (self.q, self.k, self.v))
        # Written out: with 50 tokens, twice as fast to train on a CPU as torch's fused attention.
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """[B,L,D] -> [B,heads,L,width of a head]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Classifier(nn.Module):
    def __init__(self, classes: int, vit: Vit = VIT) -> None:
        super().__init__()
        first, second = vit.stem
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, first, 3, padding=1), nn.BatchNorm2d(first), nn.GELU()),
            *(nn.Conv2d(first, second, 3, 2, padding=1), nn.BatchNorm2d(second), nn.GELU()),
            nn.Conv2d(second, vit.width, 3, 2, padding=1),
        )
        self.cls = nn.Parameter(torch.zeros(1, 1, vit.width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, vit.grid**2 + 1, vit.width))
        self.blocks = nn.ModuleList(Block(vit) for _ in range(vit.layers))
        self.norm = nn.LayerNorm(vit.width)
        self.head = nn.Linear(vit.width, classes)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits [B,classes] of normalised pictures [B,3,28,28]."""
        patches = self.stem(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(patches), -1, -1), patches], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])

    def folded(self) -> Classifier:
        """For inference: the same, each batch norm part of the convolution in front of it."""
        made = copy.deepcopy(self).eval()
        for i, layer in enumerate(made.stem):
            if isinstance(layer, nn.BatchNorm2d):
                made.stem[i - 1] = fuse_conv_bn_eval(made.stem[i - 1], layer)
                made.stem[i] = nn.Identity()
        return made
