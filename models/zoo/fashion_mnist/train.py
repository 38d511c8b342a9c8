"""Train fashion-vit from nothing, and write its weights and its log.

    python -m edgevlm.models.zoo.fashion_mnist.train --out weights.safetensors --log train.log.jsonl
        --state run.pt

55,000 pictures, shifted by up to one pixel, mirrored, a patch of every other one wiped out. The
weights are averaged over time; the average that did best on the 5,000 held-out pictures is kept.
The test split is read once, after everything. With `--resume` a run goes on at the last report in
its state file.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import nn

from edgevlm.compiler.atomic import atomic_file
from edgevlm.models.datasets.fashion_mnist import CLASSES, arrays
from edgevlm.models.zoo.fashion_mnist.config import MEAN, STD
from edgevlm.models.zoo.fashion_mnist.model import Classifier
from edgevlm.models.zoo.training.arguments import parse, trainer
from edgevlm.models.zoo.training.loop import Run, Settings, Stage, command

SHIFT, WIPED = 1, 8  # pixels
SMOOTHING = 0.1  # of labels


class Learner(nn.Module):
    """The classifier, and its loss by name."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def losses(self, pictures: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.model(pictures).float()
        return {"class": F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)}

    @torch.no_grad()
    def right(self, pictures: np.ndarray, labels: np.ndarray) -> float:
        """Share of pictures, uint8 [n,28,28], that it names."""
        found = [
            self.model(normalised(pictures[i : i + 500])).argmax(-1).numpy()
            for i in range(0, len(pictures), 500)
        ]
        return float((np.concatenate(found) == labels).mean())


def normalised(pictures: np.ndarray) -> torch.Tensor:
    """float32 [n,3,28,28] of uint8 [n,28,28]."""
    grey = (torch.from_numpy(pictures.astype(np.float32)) / 255 - MEAN) / STD
    return grey[:, None].repeat(1, 3, 1, 1)


def changed(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """Each shifted, perhaps mirrored, perhaps with a square of black in it."""
    n, side = pictures.shape[:2]
    wide = np.pad(pictures, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    found = np.empty_like(pictures)
    for i in range(n):
        y, x = rng.integers(0, 2 * SHIFT + 1, 2)
        one = wide[i, y : y + side, x : x + side]
        found[i] = one[:, ::-1] if rng.random() < 0.5 else one
        if rng.random() < 0.5:
            y, x = rng.integers(0, side - WIPED + 1, 2)
            found[i, y : y + WIPED, x : x + WIPED] = 0
    return found


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    pictures, labels = arrays("train", args.data)
    held = arrays("validation", args.data)
    learner = Learner(Classifier(len(CLASSES)))

    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((args.seed, step))
        some = rng.choice(len(pictures), args.batch, replace=False)
        return normalised(changed(rng, pictures[some])), torch.from_numpy(labels[some]).long()

    def check(average: Learner) -> tuple[dict[str, object], float]:
        share = average.right(*held)
        return {"validation": round(share, 4)}, share

    run = Run(
        Settings(args.rate, args.decay, args.report, bf16=args.bf16),
        learner,
        copy.deepcopy(learner).eval().requires_grad_(False),
        args.log,
        lambda average: atomic_file(args.out, save(average.model.state_dict())),
        args.state,
    )
    if not args.resume:
        args.log.write_text("")
        count = sum(p.numel() for p in learner.parameters())
        run.record(stage="start", parameters=count, pictures=len(pictures))
    skip = ("out", "log", "state", "resume", "data")
    line = command("edgevlm.models.zoo.fashion_mnist.train", vars(args), skip)
    run.train([Stage("all", args.steps, {"class": 1.0}, draw, check)], args.resume, line)
    kept = Learner(Classifier(len(CLASSES)).eval())
    kept.model.load_state_dict(load_file(args.out))
    run.record(
        stage="final",
        validation=kept.right(*held),
        test=kept.right(*arrays("test", args.data)),
        seed=args.seed,
        command=line,
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
    )


def _arguments() -> argparse.Namespace:
    parser = trainer(__doc__.splitlines()[0], "weights, safetensors", report=500)
    parser.add_argument("--data", type=Path, help="folder of the four files, if not Debian's")
    parser.add_argument("--steps", type=int, default=14_000)
    parser.add_argument("--batch", type=int, default=128)
    return parse(parser)


if __name__ == "__main__":
    sys.exit(main())
