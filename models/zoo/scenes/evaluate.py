"""Measure a checkpoint on the held-out scenes by greedy `generate`, by kind, and what a guess gets.

python -m edgevlm.models.zoo.scenes.evaluate CHECKPOINT
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from edgevlm.models.zoo.scenes import dataset, questions, scenes
from edgevlm.models.zoo.training.evaluate import answers, tally

__all__ = ["read_split", "whole"]

PALE = 228  # value of the blank picture: the middle of the backgrounds


def read_split(split: int) -> tuple[torch.Tensor, list[list[tuple[str, str]]]]:
    """Images [N, 3, 96, 96] uint8, and for each image its (question, answer) pairs."""
    made = dataset.rows(split)
    images = torch.from_numpy(np.stack([scene.image for scene, _ in made])).permute(0, 3, 1, 2)
    return images.contiguous(), [[(q, a) for _, q, a in asked] for _, asked in made]


def whole(checkpoint: Path) -> dict[str, dict[str, float | int]]:
    """Validation and test; and test once more with blank, and with each other's, pictures."""
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    images, rows = read_split(scenes.TEST)
    cases = {
        "validation": read_split(scenes.VALIDATION),
        "test": (images, rows),
        "blank_picture": (torch.full_like(images, PALE), rows),
        "wrong_picture": (images.roll(1, 0), rows),
    }
    return {
        name: tally(asked, answers(model, tokenizer, shown, asked), lambda q, _: questions.kind(q))
        for name, (shown, asked) in cases.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    for name, result in whole(parser.parse_args().checkpoint).items():
        print(json.dumps({"split": name, **result}))


if __name__ == "__main__":
    main()
