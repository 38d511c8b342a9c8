"""The model with the auxiliary heads that teach its tower; the heads are thrown away at the end.

CLS and the mean of the patches each say what is in the image (CLS attention then means something);
each patch says what covers it (this is what makes shapes quick to learn). Needs no LLM forward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaForConditionalGeneration

from edgevlm.models.zoo.easyvqa import config, facts, packing
from edgevlm.models.zoo.easyvqa.data import IGNORE, Batch, normalise
from edgevlm.models.zoo.easyvqa.questions import COLOURS, SHAPES

__all__ = ["Learner"]

BACKGROUND_WEIGHT = 0.2  # most patches are background; the shapes are what is hard


class Learner(nn.Module):
    """LLaVA plus heads; `losses` is everything the trainer needs."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        width = model.config.vision_config.hidden_size
        self.model = model
        self.on_cls = nn.Linear(width, facts.COUNT)
        self.on_mean = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, facts.COUNT))
        self.norm = nn.LayerNorm(width)
        self.patch_shape = nn.Linear(width, 1 + len(SHAPES))
        self.patch_colour = nn.Linear(width, 1 + len(COLOURS))

    def losses(self, batch: Batch, packed: packing.Packed | None) -> dict[str, torch.Tensor]:
        """Losses by name: "answer" only if there are questions in `packed`."""
        seen = self.model.model.vision_tower(normalise(batch.images))
        patches = seen.last_hidden_state[:, 1:]
        normed = self.norm(patches)
        found = {
            "cls": _facts_loss(self.on_cls(seen.pooler_output), batch.facts),
            "mean": _facts_loss(self.on_mean(patches.mean(1)), batch.facts),
            "patch": _patch_loss(self.patch_shape(normed), batch.patch_shape)
            + _patch_loss(self.patch_colour(normed), batch.patch_colour),
        }
        if packed is not None:
            logits = packing.answer_logits(self.model, patches, packed)
            found["answer"] = F.cross_entropy(logits, packed.target)
        return found

    @torch.no_grad()
    def facts_right(self, batch: Batch) -> dict[str, float]:
        """Share of images whose CLS facts about shapes, and about colours, are all right."""
        seen = self.model.model.vision_tower(normalise(batch.images))
        wrong = ((self.on_cls(seen.pooler_output) > 0) != (batch.facts > 0.5)) & (batch.facts >= 0)
        cut = len(SHAPES)
        return {
            "cls_shape": _share(~wrong[:, :cut].any(1)),
            "cls_colour": _share(~wrong[:, cut : cut + len(COLOURS)].any(1)),
        }

    @torch.no_grad()
    def answered(self, images: torch.Tensor, packed: packing.Packed) -> list[bool]:
        """For each question whether greedy choice would give its answer and then stop."""
        seen = self.model.model.vision_tower(normalise(images))
        patches = seen.last_hidden_state[:, 1:]
        right = packing.answer_logits(self.model, patches, packed).argmax(-1) == packed.target
        wrong = torch.zeros(int(packed.question[-1]) + 1).index_add_(
            0, packed.question, (~right).float()
        )
        return (wrong == 0).tolist()

    def parameter_count(self) -> int:
        """Of the model alone, tied weights once."""
        return sum(p.numel() for p in self.model.parameters())


def _share(right: torch.Tensor) -> float:
    return round(right.float().mean().item(), 4)


def _facts_loss(logits: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    known = bits >= 0
    return F.binary_cross_entropy_with_logits(logits.float()[known], bits[known])


def _patch_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    weight = torch.ones(logits.shape[-1])
    weight[0] = BACKGROUND_WEIGHT
    return F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), weight=weight, ignore_index=IGNORE
    )


assert config.IMAGE_TOKENS == 64  # the patch labels of `scenes` are an 8x8 grid
