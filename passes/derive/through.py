"""What masks are trained on: a part with masked hidden units, on many pictures at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgevlm.compiler.to_torch import TorchPart
from edgevlm.passes.derive.on_pictures import on_pictures

__all__ = ["Judged", "Objective"]


class Judged(ABC):
    """Pictures, and what masks of hidden units do to them."""

    hidden: tuple[str, ...]  # names of what masks are of, in their order
    pictures: Tensor

    @abstractmethod
    def loss(self, masks: Sequence[Tensor], some: np.ndarray) -> Tensor:
        """Over pictures of these numbers."""

    def whole(self, masks: Sequence[Tensor]) -> float:
        """The loss over all pictures."""
        with torch.no_grad():
            return float(self.loss(masks, np.arange(len(self.pictures))))

    def taps(self, masks: Sequence[Tensor]) -> dict[str, Callable[[Tensor], Tensor]]:
        """What a TorchPart does with hidden units as they come; no masks: nothing."""
        return {
            name: (lambda value, mask=mask: value * mask)
            for name, mask in zip(self.hidden, masks, strict=False)
        }


class Objective(Judged):
    """Classes told apart where they are known, else the output of the part matched."""

    def __init__(
        self,
        net: TorchPart,
        hidden: Sequence[str],
        pictures: np.ndarray,
        truth: np.ndarray | None = None,
    ) -> None:
        """net: a part of one input and one output; pictures [n,3,H,W]; truth int [n]."""
        self.net, self.hidden = net, tuple(hidden)
        self.pictures = torch.from_numpy(pictures)
        self.truth = None if truth is None else torch.from_numpy(truth.astype(np.int64))
        self.what = "cross-entropy" if truth is not None else "relative squared error"
        with torch.no_grad():
            self.wanted = self._outputs((), np.arange(len(pictures)))

    def loss(self, masks: Sequence[Tensor], some: np.ndarray) -> Tensor:
        """Cross-entropy, or the squared error over the power of what is wanted."""
        found = self._outputs(masks, some)
        if self.truth is not None:
            return F.cross_entropy(found, self.truth[some])
        wanted = self.wanted[some]
        return (found - wanted).square().sum() / wanted.square().sum()

    def _outputs(self, masks: Sequence[Tensor], some: np.ndarray) -> Tensor:
        return on_pictures(self.net, self.pictures, some, self.taps(masks))
