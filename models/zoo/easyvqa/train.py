"""Train easyvqa-tiny from nothing, and write its checkpoint and its log.

    python -m edgevlm.models.zoo.easyvqa.train --out checkpoint --log train.log.jsonl

Two stages: the tower alone on what is where, then the whole model on questions. Half of every batch
are real training images, half our own scenes. The weights are averaged over time; the average that
did best on the held-out training images is kept. The test split is read once, after everything.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from edgevlm.models.zoo.easyvqa import data, evaluate, questions, scenes
from edgevlm.models.zoo.easyvqa.config import SPEC
from edgevlm.models.zoo.easyvqa.learner import Learner
from edgevlm.models.zoo.training import checkpoint
from edgevlm.models.zoo.training.loop import Run, Settings, Stage, command
from edgevlm.models.zoo.training.packing import Packed, Packer
from edgevlm.models.zoo.training.processor import build_tokenizer
from edgevlm.models.zoo.training.spec import build_model

WEIGHTS = {"answer": 1.0, "cls": 1.0, "mean": 0.5, "patch": 0.5}  # of the losses; see AUXILIARY
AUXILIARY = {"tower": 1.0, "joint": 0.3}  # factor on all but "answer"
VALIDATION_SCENES = 200
Held = dict[str, tuple[data.Batch, Packed]]


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    root = args.data or data.installed_data()
    images, rows = data.read_split(root, "train")
    training, held = data.hold_out(len(rows))
    asked = [pair for i in training for pair in rows[i]]
    tokenizer = build_tokenizer(SPEC, [q for q, _ in asked], [a for _, a in asked])
    learner = Learner(build_model(SPEC, len(tokenizer)))
    # Twice as fast as the fused kernel for 65 tokens on a CPU; says nothing about later use.
    learner.model.set_attn_implementation({"vision_config": "eager"})
    packer = Packer(tokenizer, SPEC.image_tokens)
    real_held = data.Real(images[held], [rows[i] for i in held])
    drawn_held = data.Drawn(scenes.VALIDATION, VALIDATION_SCENES)
    run = Run(
        Settings(args.rate, args.decay, args.report, args.bf16),
        learner,
        copy.deepcopy(learner).eval().requires_grad_(False),
        args.log,
        lambda average: checkpoint.write(SPEC, average.model, tokenizer, args.out),
    )
    sources = (
        data.Real(images[training], [rows[i] for i in training]),
        data.Drawn(scenes.TRAIN, args.scenes),
    )
    args.log.write_text("")
    run.record(
        stage="start",
        parameters=learner.parameter_count(),
        tokens=len(tokenizer),
        train_images=len(training),
        validation_images=len(held),
        scenes=args.scenes,
    )
    run.train(
        _stages(
            args,
            packer,
            sources,
            {"validation": _plain(real_held, packer), "scenes": _plain(drawn_held, packer)},
        )
    )
    _finish(run, args, root, tokenizer, real_held)


def _stages(
    args: argparse.Namespace,
    packer: Packer,
    sources: tuple[data.Real, data.Drawn],
    held: Held,
) -> list[Stage]:
    rng = np.random.default_rng(args.seed)

    def draw(batch: int, asked: int) -> tuple[data.Batch, Packed | None]:
        whole = data.joined([s.batch(rng, batch // 2, asked) for s in sources])
        return whole, packer.pack(whole.rows) if asked else None

    def weights(stage: str) -> dict[str, float]:
        return {k: v * (1.0 if k == "answer" else AUXILIARY[stage]) for k, v in WEIGHTS.items()}

    return [
        Stage(
            "tower",
            args.tower_steps,
            weights("tower"),
            lambda _: draw(args.tower_batch, 0),
            lambda average: (_seen(average, held), None),
        ),
        Stage(
            "joint",
            args.joint_steps,
            weights("joint"),
            lambda _: draw(args.joint_batch, args.questions),
            lambda average: _validate(average, held),
        ),
    ]


def _seen(average: Learner, held: Held) -> dict[str, object]:
    """What the averaged tower sees in the held-out pictures."""
    return {name: average.facts_right(batch) for name, (batch, _) in held.items()}


def _validate(average: Learner, held: Held) -> tuple[dict[str, object], float]:
    """The answers as well, and the mean over types and sets by which the best is kept."""
    facts = _seen(average, held)
    for name, (batch, packed) in held.items():
        right = iter(average.answered(batch.images, packed))
        found = [[a if next(right) else "" for _, a in pairs] for pairs in batch.rows]
        facts[name] |= evaluate.tally(batch.rows, found)
    return facts, sum(facts[h][k] for h in facts for k in ("colour", "shape", "yes-no")) / 6


def _finish(
    run: Run, args: argparse.Namespace, root: Path, tokenizer: object, real_held: data.Real
) -> None:
    """Evaluate the stored weights by generation; the only place that opens the test split."""
    model = transformers.LlavaForConditionalGeneration.from_pretrained(
        args.out, dtype=torch.float32
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
        seed=args.seed,
        command=command(
            "edgevlm.models.zoo.easyvqa.train", vars(args), skip=("data", "out", "log")
        ),
        checkpoint_bytes=sum(path.stat().st_size for path in args.out.iterdir()),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )


def _plain(source: data.Real | data.Drawn, packer: Packer) -> tuple[data.Batch, Packed]:
    """A whole source as one untouched batch, with all its questions (ten for a scene)."""
    rng = np.random.default_rng(0)
    if isinstance(source, data.Real):
        rows = source.rows
    else:
        rows = [questions.ask(rng, things, 10) for things in source.things]
    blank = torch.full((len(rows), SPEC.image_tokens), data.IGNORE)
    return data.Batch(source.images, rows, source.facts, blank, blank), packer.pack(rows)


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
