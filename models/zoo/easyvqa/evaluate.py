"""Measure a checkpoint as its users will run it: transformers' own greedy `generate`, by type.

    python -m edgevlm.models.zoo.easyvqa.evaluate CHECKPOINT --split test
    python -m edgevlm.models.zoo.easyvqa.evaluate CHECKPOINT --split easy-scenes

The three types are always apart: a model that never sees shapes scores 84.7 % overall.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from edgevlm.models.zoo.easyvqa import data, questions, scenes
from edgevlm.models.zoo.training import evaluate

__all__ = ["accuracy", "easy_scenes", "tally"]

Pairs = list[tuple[str, str]]


def tally(rows: list[Pairs], found: list[list[str]]) -> dict[str, float | int]:
    """Exact match overall and by type, with the number of questions of each."""
    return evaluate.tally(rows, found, lambda _, answer: questions.kind(answer))


def accuracy(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: torch.Tensor,
    rows: list[Pairs],
) -> dict[str, float | int]:
    """`tally` of the generated answers."""
    return tally(rows, evaluate.answers(model, tokenizer, images, rows))


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
