"""Put an image and all its questions into one row, so that tower and image tokens run once.

    row        [ prefix + N image tokens | question 1 + answer | question 2 + answer | ... ]
    positions    0 .. P                     P + 1 ..              P + 1 ..
    attention    causal                     prefix and itself     prefix and itself

Every question then sees exactly what it would see in a prompt of its own; `check.py` holds the
logits against those of the ordinary forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from edgevlm.models.zoo.training.spec import EOS, IMAGE, PAD, PREFIX, suffix

__all__ = ["Packed", "Packer", "answer_logits", "decoder_states", "read_answers"]


@dataclass
class Packed:
    """One batch of rows; the last four list the places to be predicted: answers and their end."""

    ids: torch.Tensor  # [B, L], the image tokens once as <image>
    positions: torch.Tensor  # [B, L]
    mask: torch.Tensor  # [B, 1, L, L], True where attention is allowed
    row: torch.Tensor  # [N]
    column: torch.Tensor  # [N]
    target: torch.Tensor  # [N] the token after (row, column)
    question: torch.Tensor  # [N] number of the question, over the whole batch


class Packer:
    """Tokenises each distinct text once and lays rows out."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, image_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.seen: dict[str, list[int]] = {}
        self.prefix = [
            i
            for token in self._encode(PREFIX)
            for i in [token] * (image_tokens if token == IMAGE else 1)
        ]

    def pack(self, rows: list[list[tuple[str, str]]]) -> Packed:
        start, table, segments, positions, places = len(self.prefix), [], [], [], []
        number = 0
        for r, pairs in enumerate(rows):
            ids, segment, position = list(self.prefix), [0] * start, list(range(start))
            for k, (question, answer) in enumerate(pairs, 1):
                asked = self._encode(suffix(question))
                told = [*self._encode(f" {answer}"), EOS]
                before = len(ids) + len(asked) - 1
                places += [(r, before + j, token, number) for j, token in enumerate(told)]
                number += 1
                ids += asked + told[:-1]
                count = len(asked) + len(told) - 1
                segment += [k] * count
                position += range(start, start + count)
            table.append(ids)
            segments.append(segment)
            positions.append(position)
        row, column, target, question = torch.tensor(places).T
        # Padding is a segment of its own (-1), after everything else, and nobody looks at it.
        segment = _pad(segments, -1)
        order = torch.arange(segment.shape[1])
        same = segment[:, :, None] == segment[:, None, :]
        mask = (same | (segment == 0)[:, None, :]) & (order[:, None] >= order[None, :])
        return Packed(
            _pad(table, PAD),
            _pad(positions, 0),
            mask[:, None],
            row,
            column,
            target,
            question,
        )

    def _encode(self, text: str) -> list[int]:
        if text not in self.seen:
            self.seen[text] = self.tokenizer.encode(text)
        return self.seen[text]


def decoder_states(
    model: LlavaForConditionalGeneration, patches: torch.Tensor, packed: Packed
) -> tuple[torch.Tensor, ...]:
    """Hidden states [B, L, hidden] in front of the first layer and behind each; the last is normed.

    patches: [B, image tokens, hidden].
    """
    whole = model.model
    text = whole.language_model.embed_tokens(packed.ids)
    image = whole.multi_modal_projector(patches).to(text.dtype)
    first = int((packed.ids[0] == IMAGE).nonzero()[0])
    last = first + patches.shape[1]
    return whole.language_model(
        inputs_embeds=torch.cat([text[:, :first], image, text[:, last:]], 1),
        attention_mask=packed.mask,
        position_ids=packed.positions,
        use_cache=False,
        output_hidden_states=True,
    ).hidden_states


def answer_logits(
    model: LlavaForConditionalGeneration, patches: torch.Tensor, packed: Packed
) -> torch.Tensor:
    """Logits [N, vocabulary] at the places of `packed`, from patches [B, image tokens, hidden]."""
    return read_answers(model, decoder_states(model, patches, packed), packed)


def read_answers(
    model: LlavaForConditionalGeneration, states: tuple[torch.Tensor, ...], packed: Packed
) -> torch.Tensor:
    """Logits [N, vocabulary] at the places of `packed`, from what `decoder_states` gave."""
    return model.lm_head(states[-1][packed.row, packed.column]).float()


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
