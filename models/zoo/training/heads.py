"""Losses and figures of the auxiliary heads that teach a tower, and what every learner has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaForConditionalGeneration

from edgevlm.models.zoo.training.packing import Packed, answer_logits
from edgevlm.models.zoo.training.spec import normalise

__all__ = ["IGNORE", "BaseLearner", "facts_loss", "patch_loss", "share"]

IGNORE = -100  # a patch label that no loss counts
BACKGROUND_WEIGHT = 0.2  # most patches are background; the shapes are what is hard


class BaseLearner(nn.Module):
    """LLaVA, to which a subclass adds heads; they are thrown away at the end."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    @torch.no_grad()
    def answered(self, images: torch.Tensor, packed: Packed) -> list[bool]:
        """For each question whether greedy choice would give its answer and then stop."""
        seen = self.model.model.vision_tower(normalise(images))
        patches = seen.last_hidden_state[:, 1:]
        right = answer_logits(self.model, patches, packed).argmax(-1) == packed.target
        wrong = torch.zeros(int(packed.question[-1]) + 1).index_add_(
            0, packed.question, (~right).float()
        )
        return (wrong == 0).tolist()

    def parameter_count(self) -> int:
        """Of the model alone, tied weights once."""
        return sum(p.numel() for p in self.model.parameters())


def share(right: torch.Tensor) -> float:
    """The share of True, to four places."""
    return round(right.float().mean().item(), 4)


def facts_loss(logits: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over the bits that are known: 0 or 1, not below 0."""
    known = bits >= 0
    return F.binary_cross_entropy_with_logits(logits.float()[known], bits[known])


def patch_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of [B, patches, classes]; class 0 is background, IGNORE is left out."""
    weight = torch.ones(logits.shape[-1])
    weight[0] = BACKGROUND_WEIGHT
    return F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), weight=weight, ignore_index=IGNORE
    )
