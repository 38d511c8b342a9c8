"""Train easyvqa-tiny from nothing, and write its checkpoint and its log.

    python -m edgevlm.models.zoo.easyvqa.train --out checkpoint --log train.log.jsonl

Two stages: the tower alone on what is where, then the whole model on questions. Half of every batch
are real training images, half our own scenes. The weights are averaged over time; the average that
did best on the held-out training images is kept. The test split is read once, after everything.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers

from edgevlm.models.zoo.easyvqa import (
    checkpoint,
    config,
    data,
    evaluate,
    packing,
    questions,
    scenes,
)
from edgevlm.models.zoo.easyvqa.learner import Learner

WEIGHTS = {"answer": 1.0, "cls": 1.0, "mean": 0.5, "patch": 0.5}  # of the losses; see AUXILIARY
AUXILIARY = {"tower": 1.0, "joint": 0.3}  # factor on all but "answer"
WARM_UP = 200  # steps
VALIDATION_SCENES = 200


@dataclass
class Run:
    """What both stages share."""

    args: argparse.Namespace
    learner: Learner
    average: Learner
    packer: packing.Packer
    sources: tuple[data.Real, data.Drawn]
    held: dict[str, tuple[data.Batch, packing.Packed]]
    rng: np.random.Generator
    log: Path
    began: float = field(default_factory=time.time)
    best: float = -1.0

    def record(self, **facts: object) -> None:
        line = json.dumps({**facts, "seconds": round(time.time() - self.began, 1)})
        print(line, flush=True)
        with self.log.open("a") as stream:
            stream.write(line + "\n")


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    root = args.data or data.installed_data()
    images, rows = data.read_split(root, "train")
    training, held = data.hold_out(len(rows))
    asked = [pair for i in training for pair in rows[i]]
    tokenizer = config.build_tokenizer([q for q, _ in asked], [a for _, a in asked])
    learner = Learner(config.build_model(len(tokenizer)))
    # Twice as fast as the fused kernel for 65 tokens on a CPU; says nothing about later use.
    learner.model.set_attn_implementation({"vision_config": "eager"})
    packer = packing.Packer(tokenizer)
    real_held = data.Real(images[held], [rows[i] for i in held])
    drawn_held = data.Drawn(scenes.VALIDATION, VALIDATION_SCENES)
    args.log.write_text("")
    run = Run(
        args,
        learner,
        copy.deepcopy(learner).eval().requires_grad_(False),
        packer,
        (
            data.Real(images[training], [rows[i] for i in training]),
            data.Drawn(scenes.TRAIN, args.scenes),
        ),
        {"validation": _plain(real_held, packer), "scenes": _plain(drawn_held, packer)},
        np.random.default_rng(args.seed),
        args.log,
    )
    run.record(
        stage="start",
        parameters=learner.parameter_count(),
        tokens=len(tokenizer),
        train_images=len(training),
        validation_images=len(held),
        scenes=args.scenes,
    )
    _stage(run, "tower", args.tower_steps, args.tower_batch)
    _stage(run, "joint", args.joint_steps, args.joint_batch)
    _finish(run, root, tokenizer, real_held)


def _stage(run: Run, name: str, steps: int, batch: int) -> None:
    args, learner = run.args, run.learner
    asked = args.questions if name == "joint" else 0
    optimiser = torch.optim.AdamW(
        learner.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    means: dict[str, float] = {}
    for step in range(1, steps + 1):
        rate = args.rate * min(1, step / WARM_UP) * _cosine(step / steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        whole = data.joined([s.batch(run.rng, batch // 2, asked) for s in run.sources])
        packed = run.packer.pack(whole.rows) if asked else None
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            losses = learner.losses(whole, packed)
        total = sum(
            WEIGHTS[k] * (1.0 if k == "answer" else AUXILIARY[name]) * v for k, v in losses.items()
        )
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        _follow(run.average, learner, min(args.decay, step / (step + 10)))
        for key, value in losses.items():
            means[key] = 0.98 * means.get(key, value.item()) + 0.02 * value.item()
        if step % args.report == 0 or step == steps:
            _validate(run, name, step, {k: round(v, 4) for k, v in means.items()})


def _validate(run: Run, name: str, step: int, losses: dict[str, float]) -> None:
    """Log accuracies of the averaged weights; in the joint stage keep the best."""
    facts: dict[str, object] = {}
    for held, (batch, packed) in run.held.items():
        facts[held] = run.average.facts_right(batch)
        if name == "joint":
            right = iter(run.average.answered(batch.images, packed))
            found = [[a if next(right) else "" for _, a in pairs] for pairs in batch.rows]
            facts[held] |= evaluate.tally(batch.rows, found)
    if name == "joint":
        score = sum(facts[h][k] for h in facts for k in ("colour", "shape", "yes-no")) / 6
        facts["kept"] = score > run.best
        if facts["kept"]:
            run.best = score
            checkpoint.write(run.average.model, run.packer.tokenizer, run.args.out)
    run.record(stage=name, step=step, loss=losses, **facts)


def _finish(run: Run, root: Path, tokenizer: object, real_held: data.Real) -> None:
    """Evaluate the stored weights by generation; the only place that opens the test split."""
    model = transformers.LlavaForConditionalGeneration.from_pretrained(
        run.args.out, dtype=torch.float32
    ).eval()
    validation = evaluate.accuracy(model, tokenizer, real_held.images, real_held.rows)
    held_out = evaluate.accuracy(model, tokenizer, *evaluate.easy_scenes())
    test = evaluate.accuracy(model, tokenizer, *data.read_split(root, "test"))
    run.record(
        stage="final",
        test=test,
        easy_scenes=held_out,
        validation=validation,
        parameters=run.learner.parameter_count(),
        seed=run.args.seed,
        command=_command(run.args),
        checkpoint_bytes=sum(path.stat().st_size for path in run.args.out.iterdir()),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )


def _plain(source: data.Real | data.Drawn, packer: packing.Packer) -> tuple:
    """A whole source as one untouched batch, with all its questions (ten for a scene)."""
    rng = np.random.default_rng(0)
    if isinstance(source, data.Real):
        rows = source.rows
    else:
        rows = [questions.ask(rng, things, 10) for things in source.things]
    blank = torch.full((len(rows), config.IMAGE_TOKENS), data.IGNORE)
    return data.Batch(source.images, rows, source.facts, blank, blank), packer.pack(rows)


def _cosine(done: float) -> float:
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def _follow(average: Learner, learner: Learner, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(learner.parameters()), 1 - decay)


def _command(args: argparse.Namespace) -> str:
    """The command that repeats this run, without the paths of the machine it ran on."""
    skip = ("data", "out", "log")
    options = [
        f"--{k.replace('_', '-')} {v}"
        for k, v in vars(args).items()
        if k not in skip and not isinstance(v, bool)
    ]
    options.append("--bf16" if args.bf16 else "--no-bf16")
    return " ".join(["python -m edgevlm.models.zoo.easyvqa.train", *options])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="default: the installed easy-vqa package")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=40_000, help="own scenes to draw")
    parser.add_argument("--tower-steps", type=int, default=2500)
    parser.add_argument("--tower-batch", type=int, default=64, help="images")
    parser.add_argument("--joint-steps", type=int, default=3500)
    parser.add_argument("--joint-batch", type=int, default=32, help="images")
    parser.add_argument("--questions", type=int, default=6, help="an image, in the joint stage")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.998, help="of the weight average, a step")
    parser.add_argument("--report", type=int, default=250, help="steps between validations")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
