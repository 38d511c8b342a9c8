"""Class-specific models of fashion-vit: how small, how good, how fast, and what each step brings.

    apt-get install dataset-fashion-mnist
    python benchmarks/bench_derive.py        writes results/derive.json     (about an hour)

Every seed draws its classes and its calibration pictures (of the training split) anew. Accuracy is
on all test pictures of the classes: of the base, of the base with its head masked (the fair
baseline) and of what was derived. Times are ratios of turns in one run, one thread. Nothing was
chosen on test pictures. Stopped and started again it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from bench_saliency import asker
from results import write_result

from edgevlm.commands.sweep_timing import turn_about
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.cost import count
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import Trace, classify
from edgevlm.compiler.memo import ROOM, Memo
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.pass_manager import Originals, apply_unchecked, first_of
from edgevlm.models.answer import image_processor
from edgevlm.models.datasets.fashion_mnist import CLASSES, arrays
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.derive.asked import Derived
from edgevlm.passes.derive.keep_classes import KeepClasses
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.derive.purify_units import PurifyUnits
from edgevlm.passes.derive.recover_encoder import RecoverEncoder
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.runtimes import find_runtime

SEEDS, SIZES, ALPHAS = 3, (2, 3, 5), (0.2, 0.4, 0.6, 0.8)
PICTURES = 100  # of a class, to fit to
TURNS, WARM = 60, 5


def rho(alpha: float) -> float:
    """Share of the energy that heads keep, as NuWa has it for an alpha."""
    return -0.41 * alpha**3 + 0.14 * alpha**2 - 0.03 * alpha + 1.0


class Task:
    """Some classes, pictures to fit to, and all test pictures of them."""

    def __init__(self, plain: ExportedModel, size: int, seed: int, split: str) -> None:
        rng = np.random.default_rng((size, seed))
        self.plain, self.classes = plain, sorted(rng.choice(len(CLASSES), size, replace=False))
        self.process = image_processor(plain.contract, plain.processor)
        pictures, labels = arrays("train")
        some = [rng.choice(np.flatnonzero(labels == c), PICTURES, False) for c in self.classes]
        order = np.stack(some).T.reshape(-1)  # the classes in turns
        self.inputs = [
            ProbeInput(self.pixels(pictures[i]), truth=CLASSES[labels[i]]) for i in order
        ]
        pictures, labels = arrays(split)
        mine = np.flatnonzero(np.isin(labels, self.classes))
        self.test, self.truth = [self.pixels(pictures[i]) for i in mine], labels[mine]
        self.keep = KeepClasses(classes=[CLASSES[c] for c in self.classes])
        self.purified: dict[int, tuple[ExportedModel, float]] = {}

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        return self.process(np.repeat(picture[..., None], 3, axis=2))

    def made(self, steps: Sequence[Pass]) -> tuple[ExportedModel, dict[str, float]]:
        """And the seconds of each stage. Masks are trained once for all that begins with them."""
        at, originals = first_of(steps, {PurifyUnits.name}), Originals(steps)
        front, model, seconds = steps[: at + 1], self.plain, 0.0
        if at < len(steps):
            if len(front) not in self.purified:
                start = perf_counter()
                model = apply_unchecked(model, front, self.inputs)
                self.purified[len(front)] = model, perf_counter() - start
            model, seconds = self.purified[len(front)]
            originals.show(steps[at], self.plain)
            steps = steps[at + 1 :]
        start, memo = perf_counter(), Memo(ROOM, base=Memo(ROOM))
        for step in steps:
            step.memo = memo if step.name == NarrowEncoder.name else step.memo
        model = apply_unchecked(model, steps, self.inputs, originals)
        looking, fitting = memo.wider.seconds, memo.seconds
        rest = perf_counter() - start - looking - fitting
        return model, {
            "masks": seconds, "pictures": looking, "class set": fitting, "budget": rest
        }  # fmt: skip

    def logits(self, parts: PartCaller) -> np.ndarray:
        return np.concatenate([classify(parts, pixels, Trace()) for pixels in self.test])

    def right(self, logits: np.ndarray, masked: bool) -> float:
        """Accuracy; of a model of all classes with its head masked, or not."""
        if logits.shape[1] == len(self.classes):
            found = np.array(self.classes)[logits.argmax(1)]
        elif masked:
            found = np.array(self.classes)[logits[:, self.classes].argmax(1)]
        else:
            found = logits.argmax(1)
        return float((found == self.truth).mean())


def opened(model: ExportedModel, folder: Path) -> PartCaller:
    """On one thread, so that a smaller model is not given another number than a larger one."""
    runtime = find_runtime("ort")
    folder.mkdir()
    artifacts = [
        a.model_copy(update={"settings": {**a.settings, "threads": 1}})
        for a in runtime.lower(model, folder)
    ]
    return runtime.open_artifacts(folder, artifacts, model.contract)


def measured(task: Task, model: ExportedModel, base: PartCaller, folder: Path) -> dict[str, Any]:
    """Accuracies, size, multiplications, and the time as a share of the base's."""
    parts = opened(model, folder)
    pixels = task.test[:: len(task.test) // 20]
    _, _, ratio = turn_about(
        asker(parts, pixels), asker(base, pixels), n=TURNS, warmup=WARM, seconds=_vision
    )
    logits, cost = task.logits(parts), count(model.parts["vision"])
    return {
        "accuracy": task.right(logits, masked=True),
        "accuracy_unmasked": task.right(logits, masked=False),
        "macs": cost.macs,
        "weight_bytes": cost.weight_bytes,
        "time": ratio.median,
        "time_interval": [ratio.low, ratio.high],
    }


def _vision(times: Any) -> float:
    return times["vision"][0]


def cases(size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, what is done)."""
    for alpha in ALPHAS:
        yield f"alpha {alpha}", {"alpha": alpha}
    for alpha in (0.4, 0.6):
        yield f"as printed {alpha}", {"alpha": alpha, "printed": True, "purify": True}
    if size != 3:
        return
    for purify in (False, True):
        for closed in (False, True):
            for mask in (False, True):
                told = {"alpha": 0.6, "purify": purify, "closed": closed, "mask": mask}
                yield f"ablation purify={purify} closed={closed} mask={mask}", told
    for loss in ("lift", "mse"):
        yield f"recover {loss} 0.8", {"alpha": 0.8, "recover": loss}
    for name, alpha, flags in (
        ("half the tokens", None, {"tokens": "50%"}),
        ("w8a8", None, {"quant": "w8a8"}),
        ("alpha 0.6, w8a8", 0.6, {"quant": "w8a8"}),
        ("half the tokens, alpha 0.4, w8a8", 0.4, {"tokens": "50%", "quant": "w8a8"}),
    ):
        yield f"recipe {name}", {"alpha": alpha, "recipe": flags}


def steps_of(task: Task, told: dict[str, Any]) -> list[Pass]:
    """Behind the clean-up."""
    if "recipe" in told:
        flags = told["recipe"]
        names = tuple(task.keep.options.classes)
        asked = Flags(
            parse_asked(flags.get("tokens"), None, None, None),
            flags.get("quant", "none"),
            derived=Derived(names, told["alpha"]),
        )
        return make_passes(compose("host-cpu", "ort", asked, task.plain))
    found: list[Pass] = [task.keep] if told.get("mask", True) else []
    if told.get("purify"):
        found.append(PurifyUnits())
    options: dict[str, Any] = {"alpha": told["alpha"]}
    if told.get("printed"):
        options |= {"energy": rho(told["alpha"]), "by": "weights", "order": "sum"}
    if not told.get("closed", True):
        options |= {"order": "sum", "refit": False}
    behind = [RecoverEncoder(loss=told["recover"])] if "recover" in told else []
    return [*found, NarrowEncoder(**options), *behind]


def run(task: Task, size: int, seed: int, store: Path) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        base = opened(task.plain, Path(folder) / "base")
        logits = task.logits(base)
        cost = count(task.plain.parts["vision"])
        facts = {"size": size, "seed": seed, "classes": [CLASSES[c] for c in task.classes]}
        facts |= {"n": len(task.test)}
        whole = {
            "base": task.right(logits, masked=False),
            "base_head_mask": task.right(logits, masked=True),
            "base_macs": cost.macs,
            "base_weight_bytes": cost.weight_bytes,
        }
        for i, (name, told) in enumerate(cases(size)):
            file = store / f"{size}-{seed}-{name.replace(' ', '_')}.json"
            if not file.exists():
                model, seconds = task.made(steps_of(task, told))
                row = measured(task, model, base, Path(folder) / str(i))
                file.write_text(json.dumps({"seconds": seconds, **row}))
            rows.append({"case": name, **facts, **whole, **json.loads(file.read_text())})
            shown = ("base", "base_head_mask", "accuracy", "time")
            seconds = sum(rows[-1]["seconds"].values())
            print(size, seed, name, *(round(rows[-1][k], 4) for k in shown), f"{seconds:.1f} s")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="fashion-vit")
    parser.add_argument("--split", default="test", help="validation, while trying things")
    asked = parser.parse_args()
    source = open_source(asked.model)
    start = perf_counter()
    plain = apply_unchecked(source, make_passes(compose("host-cpu", "ort", Flags(), source)))
    clean = perf_counter() - start
    store = cache_root() / "derive" / f"{source.source.digest[-16:]}-{asked.split}"
    store.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in SIZES:
        for seed in range(SEEDS):
            rows += run(Task(plain, size, seed, asked.split), size, seed, store)
    data = {"model": asked.model, "seeds": SEEDS, "fitted_to_a_class": PICTURES, "timed": TURNS}
    if asked.split != "test":
        return
    write_result("derive", {**data, "clean_seconds": clean, "rows": rows})


if __name__ == "__main__":
    main()
