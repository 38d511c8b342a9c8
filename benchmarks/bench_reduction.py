"""Every token reduction method at every budget: accuracy on a whole test split, and time.

    python benchmarks/bench_reduction.py        writes results/reduction_*.json      (about 2 hours)
    python benchmarks/bench_reduction.py scenes-tiny scenes             one of them

Each method runs at its own sites with its default options; nothing is tuned here. `random` is
drawn with five seeds; every other method is compared with them question by question, on the same
pictures (test T11). Times are ratios to no pruning, turn about. Stopped and started again it goes
on where it was: answers are kept in the cache folder by the graphs that gave them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pairing import against_random
from places import position_bias
from results import write_result

from edgevlm.commands.payoff import TOKEN_STEPS, unpruned
from edgevlm.commands.sweep_timing import turn_about
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.cost import count, image_tokens
from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.recipe import Recipe
from edgevlm.compiler.reference import Reference, observe
from edgevlm.models.answer import Answerer, inputs_of
from edgevlm.models.datasets import Dataset, load_dataset
from edgevlm.models.datasets.scoring import Score, exact_match
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.runtimes import find_runtime

PAIRS = (("easyvqa-tiny", "easy-vqa"), ("scenes-tiny", "scenes"))  # model, dataset
SHARES = ("50%", "25%", "12.5%", "6.25%")
SEEDS = 5
TIMED = 40


def cases() -> Iterator[tuple[str, str | None]]:
    """(method as --prune wants it, budget), floors first; None where it keeps all tokens."""
    for share in SHARES:
        for seed in range(SEEDS):
            yield f"random:seed={seed}", share
    for share in SHARES:
        for name in METHODS:
            if name != "random" and METHODS[name].budgeted:
                yield name, share
    yield from ((name, None) for name, method in METHODS.items() if not method.budgeted)


def recipe_of(
    model: ExportedModel, prune: str | None, share: str | None, site: str | None = None
) -> Recipe:
    asked = None if prune is None else parse_asked(share, prune, site)
    return compose("host-cpu", "ort", Flags(asked), model)


def opened(model: ExportedModel, folder: Path) -> Answerer:
    """Lowered and opened as a bundle would be; no selector can break its promise unnoticed."""
    runtime = find_runtime("ort")
    parts = runtime.open_artifacts(folder, runtime.lower(model, folder), model.contract)
    return Answerer(model.contract, model.processor, model.tokenizer, parts)


def ask_all(answerer: Answerer, dataset: Dataset) -> np.ndarray:
    """bool [n]: which questions are answered exactly."""
    right, tokens, last = [], None, None
    for row in dataset.rows:
        if row.image is not last:
            tokens, last = answerer.look(row.rgb), row.image
        right.append(exact_match(answerer.answer(tokens, row.question).text, row.answer))
    return np.array(right)


def pictures(dataset: Dataset) -> np.ndarray:
    """int [n]: the number of each question's picture, what is resampled together."""
    numbers: dict[Any, int] = {}
    keys = [r.image if isinstance(r.image, Path) else id(r.image) for r in dataset.rows]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def timed(answerer: Answerer, plain: Answerer, dataset: Dataset) -> dict[str, Any]:
    """Time to first token of whole requests, as a ratio to no pruning."""
    rows = dataset.rows[:: max(1, len(dataset.rows) // 16)][:16]
    asked = [(r.rgb, r.question) for r in rows]

    def once(who: Answerer) -> Any:
        return lambda i: who.answer(*asked[i % len(asked)]).seconds

    after, before, ratio = turn_about(once(answerer), once(plain), n=TIMED, warmup=5)
    return {
        "first_token_ratio": vars(ratio),
        "before_ms": before.ttft_ms,
        "after_ms": after.ttft_ms,
        "stages_after_ms": {name: s.p50_ms for name, s in after.stages.items()},
        "n": TIMED,
    }


def reduced(
    source: ExportedModel,
    prune: str,
    share: str | None,
    seen: Reference,
    site: str | None = None,
) -> tuple[ExportedModel | None, dict[str, Any]]:
    """The model with its tokens dropped, and what is known without running it.

    seen: what the source does on its probes; some methods look at that.
    """
    facts: dict[str, Any] = {"method": prune, "budget": share}
    try:
        recipe = recipe_of(source, prune, share, site)
        model = source
        for step in make_passes(recipe):
            step.calibration = seen
            model = step(model).model
    except EdgeError as fault:
        return None, {**facts, "refused": list(fault.lines())}
    facts["steps"] = [s.options for s in recipe.steps if s.name in TOKEN_STEPS]
    facts["tokens"] = image_tokens(model.contract)
    facts["macs"] = {role: count(part).macs for role, part in model.parts.items()}
    return model, facts


def on_its_probes(source: ExportedModel) -> Reference:
    return observe(source, inputs_of(source))


def asked(model: ExportedModel, dataset: Dataset) -> np.ndarray:
    """bool [n]: which questions the model answers."""
    with tempfile.TemporaryDirectory() as folder:
        return ask_all(opened(model, Path(folder)), dataset)


def scores(right: np.ndarray, dataset: Dataset) -> dict[str, Any]:
    """Overall and by kind."""
    kinds = np.array([row.kind for row in dataset.rows])
    return {
        "score": Score(len(right), int(right.sum())).as_json(),
        "kinds": {
            kind: Score(int((kinds == kind).sum()), int(right[kinds == kind].sum())).as_json()
            for kind in dataset.kinds
        },
    }


def digest(model: ExportedModel) -> str:
    """Of the contract and every graph, weights included: the same digest, the same answers."""
    total = hashlib.sha256(model.contract.model_dump_json().encode())
    for part in model.parts.values():
        total.update(ir.serde.serialize_model(part).SerializeToString(deterministic=True))
    return total.hexdigest()


def measure(model_name: str, dataset_name: str, split: str, with_time: bool) -> None:
    """Every case of one model on one dataset; writes the result where times were asked for."""
    source, dataset = open_source(model_name), load_dataset(dataset_name, split)
    store = cache_root() / "reduction" / f"{model_name}-{dataset_name}-{split}"
    store.mkdir(parents=True, exist_ok=True)
    group, answers, rows, seen = pictures(dataset), {}, [], on_its_probes(source)
    with tempfile.TemporaryDirectory() as folder:
        base = unpruned(source, recipe_of(source, None, None))
        plain = opened(base, Path(folder))
        whole = ask_all(plain, dataset)
        for prune, share in cases():
            model, facts = reduced(source, prune, share, seen)
            rows.append(facts)
            if model is not None:
                file = store / f"{digest(model)}.npy"
                if not file.exists():
                    np.save(file, asked(model, dataset))
                answers[prune, share] = np.load(file, allow_pickle=False)
                facts |= scores(answers[prune, share], dataset)
                times = file.with_suffix(".json")
                if with_time and not times.exists():
                    with tempfile.TemporaryDirectory() as scratch:
                        answerer = opened(model, Path(scratch))
                        found = {
                            "time": timed(answerer, plain, dataset),
                            "places": position_bias(answerer, dataset),
                        }
                        times.write_text(json.dumps(found))
                if times.exists():
                    facts |= json.loads(times.read_text())
            shown = facts["score"]["accuracy"] if "score" in facts else facts["refused"][0]
            print(prune, share, shown, flush=True)
    if not with_time:
        return  # answers are stored; a run with times writes the result
    for facts in (row for row in rows if row["budget"]):
        seeds = [answers[f"random:seed={s}", facts["budget"]] for s in range(SEEDS)]
        if "score" in facts and not facts["method"].startswith("random"):
            right = answers[facts["method"], facts["budget"]]
            facts["against_random"] = against_random(right, seeds, group)
    write_result(
        f"reduction_{dataset_name.replace('-', '_')}",
        {
            "model": model_name,
            "dataset": dataset_name,
            "split": split,
            "n": len(dataset.rows),
            "pictures": int(group.max()) + 1,
            "seeds": SEEDS,
            "unpruned": Score(len(whole), int(whole.sum())).as_json(),
            "rows": rows,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="with a dataset: this pair alone")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("--split", default="test")
    parser.add_argument("--time", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    pairs = [(args.model, args.dataset)] if args.dataset else PAIRS
    for model, dataset in pairs:
        measure(model, dataset, args.split, args.time)


if __name__ == "__main__":
    main()
