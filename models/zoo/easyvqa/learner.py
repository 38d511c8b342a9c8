"""The model with the auxiliary heads that teach its tower; the heads are thrown away at the end.

CLS and the mean of the patches each say what is in the image (CLS attention then means something);
each patch says what covers it (this is what makes shapes quick to learn). Needs no LLM forward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaForConditionalGeneration

from edgevlm.models.zoo.easyvqa import facts
from edgevlm.models.zoo.easyvqa.data import Batch
from edgevlm.models.zoo.easyvqa.questions import COLOURS, SHAPES
from edgevlm.models.zoo.training.heads import BaseLearner, facts_loss, patch_loss, share
from edgevlm.models.zoo.training.packing import Packed, answer_logits
from edgevlm.models.zoo.training.spec import normalise

__all__ = ["Learner"]


class Learner(BaseLearner):
    """LLaVA plus heads; `losses` is everything the trainer needs."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__(model)
        width = model.config.vision_config.hidden_size
        self.on_cls = nn.Linear(width, facts.COUNT)
        self.on_mean = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, facts.COUNT))
        self.norm = nn.LayerNorm(width)
        self.patch_shape = nn.Linear(width, 1 + len(SHAPES))
        self.patch_colour = nn.Linear(width, 1 + len(COLOURS))

    def losses(self, batch: Batch, packed: Packed | None) -> dict[str, torch.Tensor]:
        """Losses by name: "answer" only if there are questions in `packed`."""
        seen = self.model.model.vision_tower(normalise(batch.images))
        patches = seen.last_hidden_state[:, 1:]
        normed = self.norm(patches)
        found = {
            "cls": facts_loss(self.on_cls(seen.pooler_output), batch.facts),
            "mean": facts_loss(self.on_mean(patches.mean(1)), batch.facts),
            "patch": patch_loss(self.patch_shape(normed), batch.patch_shape)
            + patch_loss(self.patch_colour(normed), batch.patch_colour),
        }
        if packed is not None:
            logits = answer_logits(self.model, patches, packed)
            found["answer"] = F.cross_entropy(logits, packed.target)
        return found

    @torch.no_grad()
    def facts_right(self, batch: Batch) -> dict[str, float]:
        """Share of images whose CLS facts about shapes, and about colours, are all right."""
        seen = self.model.model.vision_tower(normalise(batch.images))
        wrong = ((self.on_cls(seen.pooler_output) > 0) != (batch.facts > 0.5)) & (batch.facts >= 0)
        cut = len(SHAPES)
        return {
            "cls_shape": share(~wrong[:, :cut].any(1)),
            "cls_colour": share(~wrong[:, cut : cut + len(COLOURS)].any(1)),
        }
