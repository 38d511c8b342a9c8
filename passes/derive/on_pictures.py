"""A part in torch on many pictures at once: what is trained through it sees a batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from edgevlm.compiler.to_torch import TorchPart
from edgevlm.compiler.to_torch.part import Tap

__all__ = ["on_pictures"]

TOGETHER = 32  # pictures that are looked at in one go


def on_pictures(
    net: TorchPart, pictures: Tensor, some: np.ndarray, taps: Mapping[str, Tap] | None = None
) -> Tensor:
    """What the one output of a part is for pictures [n,3,H,W] of numbers `some`: [len(some),...].

    A part is of batch 1, so a batch is a map over it; gradients go to its parameters and the taps.
    """
    (given,), (made,) = net.inputs, net.outputs

    def one(picture: Tensor) -> Tensor:
        return net({given: picture[None]}, taps=taps)[made][0]

    pieces = [pictures[some[i : i + TOGETHER]] for i in range(0, len(some), TOGETHER)]
    return torch.cat([torch.vmap(one)(piece) for piece in pieces])
