"""Measure a checkpoint as its users will run it: transformers' own greedy `generate`, by type.

    python -m edgevlm.models.zoo.easyvqa.evaluate CHECKPOINT --split test
    python -m edgevlm.models.zoo.easyvqa.evaluate CHECKPOINT --split easy-scenes

The three types are always apart: a model that never sees shapes scores 84.7 % overall.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from edgevlm.models.zoo.easyvqa import config, data, questions, scenes

__all__ = ["accuracy", "answers", "easy_scenes", "tally"]

BATCH = 128  # prompts of one length generated together, so that none is padded
Pairs = list[tuple[str, str]]


@torch.no_grad()
def answers(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: torch.Tensor,
    rows: list[Pairs],
) -> list[list[str]]:
    """The generated answer of every question of every image [N, 3, 64, 64] uint8."""
    found = [[""] * len(pairs) for pairs in rows]
    by_length: dict[int, list[tuple[int, int, list[int]]]] = defaultdict(list)
    for i, pairs in enumerate(rows):
        for j, (question, _) in enumerate(pairs):
            text = config.prompt(question).replace("<image>", "<image>" * config.IMAGE_TOKENS)
            ids = tokenizer.encode(text)
            by_length[len(ids)].append((i, j, ids))
    for length, prompts in sorted(by_length.items()):
        for start in range(0, len(prompts), BATCH):
            some = prompts[start : start + BATCH]
            ids = torch.tensor([p[2] for p in some])
            pixels = data.normalise(images[[p[0] for p in some]])
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels,
                do_sample=False,
            )
            for (i, j, _), tokens in zip(some, made[:, length:], strict=True):
                found[i][j] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return found


def tally(rows: list[Pairs], found: list[list[str]]) -> dict[str, float | int]:
    """Exact match overall and by type, with the number of questions of each."""
    right, count = defaultdict(int), defaultdict(int)
    for pairs, guesses in zip(rows, found, strict=True):
        for (_, answer), guess in zip(pairs, guesses, strict=True):
            for name in ("overall", questions.kind(answer)):
                right[name] += guess == answer
                count[name] += 1
    shares = {name: round(right[name] / count[name], 5) for name in sorted(count)}
    return {**shares, **{f"n_{name}": count[name] for name in sorted(count)}}


def accuracy(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: torch.Tensor,
    rows: list[Pairs],
) -> dict[str, float | int]:
    """`tally` of the generated answers."""
    return tally(rows, answers(model, tokenizer, images, rows))


def easy_scenes() -> tuple[torch.Tensor, list[Pairs]]:
    """The held-out scenes in the form of `data.read_split`."""
    made = scenes.easy_scenes()
    images = torch.from_numpy(np.stack([scene.image for scene, _ in made]))
    return images.permute(0, 3, 1, 2).contiguous(), [pairs for _, pairs in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--split", choices=("validation", "test", "easy-scenes"), required=True)
    parser.add_argument("--data", type=Path, help="default: the installed easy-vqa package")
    args = parser.parse_args()
    if args.split == "easy-scenes":
        images, rows = easy_scenes()
    else:
        source = "test" if args.split == "test" else "train"
        images, rows = data.read_split(args.data or data.installed_data(), source)
        if args.split == "validation":
            held = data.hold_out(len(rows))[1]
            images, rows = images[held], [rows[i] for i in held]
    model = LlavaForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    print(json.dumps({"split": args.split, **accuracy(model.eval(), tokenizer, images, rows)}))


if __name__ == "__main__":
    main()
