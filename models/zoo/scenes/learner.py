"""The model with the auxiliary heads that teach its tower; the heads are thrown away at the end.

CLS says what is in the whole picture (its attention then means something, and it is not shown to
the decoder). Each patch says what covers it, where that thing is and how it ranks among the others:
this is what makes a tower of this size learn small things in minutes. Each word of a noun phrase in
a question says how many things it names, and of a single one what and where it is: this is what
makes a decoder of this size learn to look.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from edgevlm.models.zoo.scenes import facts
from edgevlm.models.zoo.scenes.data import Batch
from edgevlm.models.zoo.scenes.phrases import Phrases
from edgevlm.models.zoo.training.heads import BaseLearner, facts_loss, patch_loss, share
from edgevlm.models.zoo.training.packing import Packed, decoder_states, read_answers
from edgevlm.models.zoo.training.spec import normalise

__all__ = ["Learner"]

CUTS = [*facts.CLASSES.values(), 2, facts.PLACE, facts.ENDS]  # outputs of the patch head
SHARP = 10.0  # on the cosine between a patch and a word
NAMES = [1 + facts.MOST, *list(facts.CLASSES.values())[:3], facts.PLACE]  # of the phrase head
LAYERS = (2, 3)  # behind which a phrase is asked what it names; what is behind them can use it
PEERS = 0.3  # factor on the loss of "how many are like it"


class Learner(BaseLearner):
    """LLaVA plus heads; `losses` is everything the trainer needs."""

    def __init__(
        self, model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        super().__init__(model)
        self.words = [
            torch.tensor([tokenizer.encode(f" {word}")[0] for word in values])
            for _, values in facts.GROUPS
        ]
        width = model.config.vision_config.hidden_size
        self.on_cls = nn.Linear(width, facts.BITS)
        self.on_patch = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(CUTS)))
        self.phrases = Phrases(tokenizer, len(model.get_input_embeddings().weight))
        width = model.config.text_config.hidden_size
        self.on_phrase = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(NAMES)))

    def losses(self, batch: Batch, packed: Packed | None) -> dict[str, torch.Tensor]:
        """Losses by name: "answer" and "phrase" only if there are questions in `packed`."""
        seen = self.model.model.vision_tower(normalise(batch.images))
        patches = seen.last_hidden_state[:, 1:]
        found = {
            "cls": facts_loss(self.on_cls(seen.pooler_output), batch.bits),
            **self._patch_losses(patches, batch),
            "words": self._words_loss(patches, batch),
        }
        if packed is not None:
            states = decoder_states(self.model, patches, packed)
            logits = read_answers(self.model, states, packed)
            found["answer"] = F.cross_entropy(logits, packed.target)
            found["phrase"] = sum(self._phrase_loss(states[i], batch, packed) for i in LAYERS)
        return found

    def _phrase_loss(self, state: torch.Tensor, batch: Batch, packed: Packed) -> torch.Tensor:
        named = self.phrases.find(packed.ids, batch.things)
        made = self.on_phrase(state[named.row, named.column]).float()
        count, *logits, place = made.split(NAMES, -1)
        one = named.single
        at = named.row[one], named.thing[one]
        labels = batch.things[at]
        what = sum(F.cross_entropy(x[one], labels[:, i]) for i, x in enumerate(logits))
        where = F.l1_loss(place[one], batch.spots[at])
        return F.cross_entropy(count, named.count) + what / 3 + 3 * where

    def _patch_losses(self, patches: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        *logits, centre, place, ends = self.on_patch(patches).float().split(CUTS, -1)
        of = [patch_loss(x, batch.classes[..., i]) for i, x in enumerate(logits)]
        covered = batch.classes[..., 0] > 0
        figures = batch.figures[covered]
        return {
            "what": sum(of[:3]),
            "peers": PEERS * sum(of[3:]),
            "centre": patch_loss(centre, batch.centre),
            "place": 3 * F.l1_loss(place[covered], figures[:, : facts.PLACE]),
            "ends": F.binary_cross_entropy_with_logits(ends[covered], figures[:, facts.PLACE :]),
        }

    def _words_loss(self, patches: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Projected patches point where the embeddings of their words do: the part of CLIP's
        contrastive training, and what lets the decoder find a thing by its name."""
        covered = batch.classes[..., 0] > 0
        image = F.normalize(
            self.model.model.multi_modal_projector(patches[covered]).float(), dim=-1
        )
        table = F.normalize(self.model.get_input_embeddings().weight.float(), dim=-1)
        return sum(
            F.cross_entropy(SHARP * image @ table[ids].T, batch.classes[covered][:, i] - 1)
            for i, ids in enumerate(self.words)
        )

    @torch.no_grad()
    def seen_right(self, batch: Batch) -> dict[str, float]:
        """Share of pictures whose CLS bits are all right, and of centre patches by class label."""
        seen = self.model.model.vision_tower(normalise(batch.images))
        wrong = (self.on_cls(seen.pooler_output) > 0) != (batch.bits > 0.5)
        logits = self.on_patch(seen.last_hidden_state[:, 1:]).split(CUTS, -1)
        hit = batch.centre > 0
        told = {
            name: share(logits[i][hit].argmax(-1) == batch.classes[..., i][hit])
            for i, name in enumerate(facts.CLASSES)
        }
        return {"cls": share(~wrong.any(1)), **told}
