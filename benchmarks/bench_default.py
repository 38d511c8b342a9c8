"""Which method drops tokens where the user names none? Decided on questions that are no test.

    python benchmarks/bench_default.py        writes results/default.json      (about 30 minutes)

Every method at every kind of site it works at, at 25 % of tokens, default options, on the
validation split of scenes and on easy-VQA's training pictures. `DEFAULTS` of
passes/tokens/schedule.py follows from this and from the times of bench_llava.py. Stopped and
started again it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from bench_reduction import asked, digest, on_its_probes, reduced, scores
from results import write_result

from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.models.datasets import load_dataset
from edgevlm.models.source import open_source
from edgevlm.passes.tokens.methods import METHODS

SHARE = "25%"
QUESTIONS = 2000
TRIED = (("easyvqa-tiny", "easy-vqa", "train"), ("scenes-tiny", "scenes", "validation"))
SEEDS = 3
#: of a kind of site: the place, where a method has none or several of its own there
PLACES = {"vision": "vision:1", "vision-out": "vision-out", "connector-out": "connector-out"}


def cases() -> Iterator[tuple[str, str, str | None]]:
    """(kind of site, method as --prune wants it, --prune-at)."""
    for kind in ("vision", "vision-out", "connector-out", "llm"):
        for seed in range(SEEDS):
            yield kind, f"random:seed={seed}", PLACES.get(kind, "llm:1")
        for name, method in METHODS.items():
            if name != "random" and method.as_pass is None and kind in method.sites:
                own = method.sites[0] == kind
                yield kind, name, None if own else PLACES.get(kind, "llm:1")
                if own and len(method().default_sites(4, 5)) > 1 and kind != "llm":
                    yield kind, name, PLACES[kind]  # at one place, as the others


def measure(source: ExportedModel, name: str, split: str) -> list[dict[str, Any]]:
    """Accuracy of every case."""
    dataset = load_dataset(name, split, limit=QUESTIONS)
    store = cache_root() / "default" / name
    store.mkdir(parents=True, exist_ok=True)
    rows, seen = [], on_its_probes(source)
    for kind, method, site in cases():
        model, facts = reduced(source, method, SHARE, seen, site)
        facts = {"dataset": name, "kind": kind, **facts}
        if model is not None:
            file = store / f"{digest(model)}.npy"
            if not file.exists():
                np.save(file, asked(model, dataset))
            facts |= scores(np.load(file, allow_pickle=False), dataset)
        rows.append(facts)
        shown = facts["score"]["accuracy"] if "score" in facts else facts["refused"][0]
        print(name, kind, method, shown, flush=True)
    return rows


def main() -> None:
    rows = [r for model, name, split in TRIED for r in measure(open_source(model), name, split)]
    tried = [{"model": model, "dataset": name, "split": split} for model, name, split in TRIED]
    write_result("default", {"tried": tried, "n": QUESTIONS, "budget": SHARE, "rows": rows})


if __name__ == "__main__":
    main()
