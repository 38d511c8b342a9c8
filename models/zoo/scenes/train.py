"""Train scenes-tiny from nothing, and write its checkpoint and its log.

    python -m edgevlm.models.zoo.scenes.train --out checkpoint --log train.log.jsonl --state run.pt

Two stages: the tower alone on what is where, then the whole model on questions. The weights are
averaged over time; the average that did best on the validation scenes is kept. The test split is
read once, after everything. With `--resume` a run goes on at the last report in its state file.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys

import numpy as np
import torch
import transformers

from edgevlm.models.zoo.scenes import data, dataset, evaluate, questions, scenes
from edgevlm.models.zoo.scenes.config import SPEC
from edgevlm.models.zoo.scenes.learner import Learner
from edgevlm.models.zoo.training import checkpoint
from edgevlm.models.zoo.training.arguments import parse, trainer
from edgevlm.models.zoo.training.evaluate import tally
from edgevlm.models.zoo.training.loop import Run, Settings, Stage, command
from edgevlm.models.zoo.training.packing import Packer
from edgevlm.models.zoo.training.processor import build_tokenizer
from edgevlm.models.zoo.training.spec import build_model

WEIGHTS = {
    "cls": 1.0,
    "what": 1.0,
    "peers": 1.0,
    "centre": 1.0,
    "place": 1.0,
    "ends": 0.5,
    "words": 1.0,
}
AUXILIARY = 0.2  # factor on these in the joint stage, where the answer weighs 1
TOKENIZED = 2000  # training scenes whose questions the tokenizer is made from


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    drawn = data.Drawn(scenes.TRAIN, args.scenes, args.easy_scenes)
    tokenizer = _tokenizer(drawn)
    packer = Packer(tokenizer, SPEC.image_tokens)
    learner = Learner(build_model(SPEC, len(tokenizer)), tokenizer)
    # Faster than the fused kernel for so few tokens on a CPU; says nothing about later use.
    learner.model.set_attn_implementation({"vision_config": args.attention})
    held = data.Drawn(scenes.VALIDATION, dataset.SCENES[scenes.VALIDATION])
    batch = held.all(data.held_out(scenes.VALIDATION, len(held.things), dataset.EACH))
    packed = packer.pack(batch.rows)

    def draw(stage: int, count: int, each: int, step: int) -> tuple:
        rng = np.random.default_rng((args.seed, stage, step))
        # Easy pictures alone at first, then fewer and fewer.
        left = min(1.0, max(0.0, 2 - step / args.easy_steps)) if each else 0.0
        made = drawn.batch(rng, count, each, args.easier if each else 0, round(left * count))
        return made, packer.pack(made.rows) if each else None

    def check(average: Learner) -> tuple[dict, float]:
        right = iter(average.answered(batch.images, packed))
        found = [[a if next(right) else "" for _, a in pairs] for pairs in batch.rows]
        facts = tally(batch.rows, found, lambda question, _: questions.kind(question))
        return {"seen": average.seen_right(batch), "validation": facts}, facts["overall"]

    run = Run(
        Settings(args.rate, args.decay, args.report, args.bf16),
        learner,
        copy.deepcopy(learner).eval().requires_grad_(False),
        args.log,
        lambda average: checkpoint.write(SPEC, average.model, tokenizer, args.out),
        args.state,
    )
    if not args.resume:
        args.log.write_text("")
        run.record(
            stage="start",
            parameters=learner.parameter_count(),
            tokens=len(tokenizer),
            scenes=args.scenes,
        )
    less = {key: AUXILIARY * value for key, value in WEIGHTS.items()}
    run.train(
        [
            Stage(
                "tower",
                args.tower_steps,
                WEIGHTS,
                lambda step: draw(0, args.tower_batch, 0, step),
                lambda average: ({"seen": average.seen_right(batch)}, None),
            ),
            Stage(
                "joint",
                args.joint_steps,
                {**less, "answer": 1.0, "phrase": args.phrase},
                lambda step: draw(1, args.joint_batch, args.each, step),
                check,
            ),
        ],
        args.resume,
        _command(args),
    )
    _finish(run, args)


def _tokenizer(drawn: data.Drawn) -> transformers.PreTrainedTokenizerFast:
    rng = np.random.default_rng(0)
    asked = [pair for things in drawn.things[:TOKENIZED] for pair in questions.ask(rng, things, 4)]
    return build_tokenizer(SPEC, [q for _, q, _ in asked], [a for _, _, a in asked])


def _finish(run: Run, args: argparse.Namespace) -> None:
    """Evaluate the stored weights by generation; the only place that opens the test split."""
    run.record(
        stage="final",
        **evaluate.whole(args.out),
        parameters=run.learner.parameter_count(),
        seed=args.seed,
        command=_command(args),
        checkpoint_bytes=sum(path.stat().st_size for path in args.out.iterdir()),
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )


def _command(args: argparse.Namespace) -> str:
    skip = ("out", "log", "state", "resume")
    return command("edgevlm.models.zoo.scenes.train", vars(args), skip)


def _arguments() -> argparse.Namespace:
    parser = trainer(__doc__.splitlines()[0], "checkpoint folder", report=250)
    parser.add_argument("--scenes", type=int, default=24_000, help="training scenes to draw")
    parser.add_argument("--tower-steps", type=int, default=1500)
    parser.add_argument("--tower-batch", type=int, default=48, help="images")
    parser.add_argument("--joint-steps", type=int, default=3500)
    parser.add_argument("--joint-batch", type=int, default=24, help="images")
    parser.add_argument("--each", type=int, default=2, help="questions of every kind an image")
    parser.add_argument("--easier", type=int, default=5, help="practice questions an image")
    parser.add_argument("--easy-scenes", type=int, default=8000, help="of one or two things")
    parser.add_argument("--easy-steps", type=int, default=600, help="alone; as many to fade")
    parser.add_argument("--phrase", type=float, default=0.5, help="weight of what phrases name")
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="eager")
    return parse(parser)


if __name__ == "__main__":
    sys.exit(main())
