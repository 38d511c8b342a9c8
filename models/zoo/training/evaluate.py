"""Measure a checkpoint as its users will run it: transformers' own greedy `generate`, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from edgevlm.models.zoo.training.spec import normalise, prompt

__all__ = ["answers", "tally"]

BATCH = 128  # prompts of one length generated together, so that none is padded
Pairs = list[tuple[str, str]]  # (question, answer) of one image


@torch.no_grad()
def answers(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: torch.Tensor,
    rows: list[Pairs],
) -> list[list[str]]:
    """The generated answer of every question of every image [N, 3, side, side] uint8."""
    found = [[""] * len(pairs) for pairs in rows]
    by_length: dict[int, list[tuple[int, int, list[int]]]] = defaultdict(list)
    repeated = "<image>" * model.config.image_seq_length
    for i, pairs in enumerate(rows):
        for j, (question, _) in enumerate(pairs):
            ids = tokenizer.encode(prompt(question).replace("<image>", repeated))
            by_length[len(ids)].append((i, j, ids))
    for length, prompts in sorted(by_length.items()):
        for start in range(0, len(prompts), BATCH):
            some = prompts[start : start + BATCH]
            ids = torch.tensor([p[2] for p in some])
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=normalise(images[[p[0] for p in some]]),
                do_sample=False,
            )
            for (i, j, _), tokens in zip(some, made[:, length:], strict=True):
                found[i][j] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return found


def tally(
    rows: list[Pairs], found: list[list[str]], kind: Callable[[str, str], str]
) -> dict[str, float | int]:
    """Exact match overall and by kind(question, answer), with the number of questions of each."""
    right, count = defaultdict(int), defaultdict(int)
    for pairs, guesses in zip(rows, found, strict=True):
        for (question, answer), guess in zip(pairs, guesses, strict=True):
            for name in ("overall", kind(question, answer)):
                right[name] += guess == answer
                count[name] += 1
    shares = {name: round(right[name] / count[name], 5) for name in sorted(count)}
    return {**shares, **{f"n_{name}": count[name] for name in sorted(count)}}
