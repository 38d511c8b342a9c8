"""Find the noun phrases of questions, and say what they name: what teaches the decoder to look.

is  there  a  small  red  circle  ?       how many of the things in the picture are ...
              small  small  small
                     red    red           so a right answer is asked of every word of a phrase,
                            circle        and where the one thing is that the phrase fits
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from edgevlm.models.zoo.scenes import facts

__all__ = ["Named", "Phrases"]

LONGEST = 3  # words: size, colour, shape


@dataclass
class Named:
    """What N words of noun phrases name."""

    row: torch.Tensor  # [N]
    column: torch.Tensor  # [N]
    count: torch.Tensor  # [N] things that the phrase fits as far as this word
    single: torch.Tensor  # [N] bool: it is one
    thing: torch.Tensor  # [N] which, where it is one


class Phrases:
    """Knows the ids of the words that say shape, colour or size."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, tokens: int) -> None:
        self.group = torch.full((tokens,), -1)  # of facts.GROUPS
        self.value = torch.zeros(tokens, dtype=torch.long)  # class label
        for g, (_, values) in enumerate(facts.GROUPS):
            for i, word in enumerate(values, 1):
                for form in (word, f"{word}s"):
                    ids = tokenizer.encode(f" {form}")
                    if len(ids) == 1:
                        self.group[ids[0]], self.value[ids[0]] = g, i

    def find(self, ids: torch.Tensor, things: torch.Tensor) -> Named:
        """ids [B, L]; things [B, MOST, 3] class labels, 0 where there is none."""
        group = self.group[ids]
        said = group >= 0
        labels = things.transpose(1, 2).gather(  # [B, L, MOST]
            1, group.clamp(min=0)[..., None].expand(-1, -1, things.shape[1])
        )
        fits = said[..., None] & (labels == self.value[ids][..., None])
        for _ in range(LONGEST - 1):  # a word narrows what the word in front of it names
            before = torch.ones_like(fits)
            before[:, 1:] = torch.where(said[:, :-1, None], fits[:, :-1], True)
            fits = fits & before
        row, column = said.nonzero(as_tuple=True)
        found = fits[row, column]
        count = found.sum(-1)
        return Named(row, column, count, count == 1, found.long().argmax(-1))
