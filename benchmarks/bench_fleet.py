"""A hundred class sets in one call of `edgevlm derive`: seconds by stage, throughput, memory.

    apt-get install dataset-fashion-mnist
    python benchmarks/bench_fleet.py         writes results/fleet.json      (about 10 minutes)

Every set is 2 to 5 of fashion-vit's classes, at alpha 0.6, drawn by chance, no two alike. Once with
one process, once with one a core, each with a cache of its own, so that both begin with nothing.
Then what a second set costs: of classes that the first one had, with some pictures and with more,
in the same call and in a later one; and of other classes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from results import write_result

from edgevlm.models.datasets.fashion_mnist import CLASSES

SETS, SIZES, SEED, SEEDS = 100, (2, 3, 4, 5), 0, 6
PICTURES, MORE = 1000, 4000  # of all ten classes; a fifth of them held out
ALPHA = 0.6


def drawn() -> list[list[str]]:
    """Names of classes, no two sets alike; as many of each size."""
    rng, found = np.random.default_rng(SEED), []
    while len(found) < SETS:
        size = SIZES[len(found) % len(SIZES)]
        some = sorted(CLASSES[i] for i in rng.choice(len(CLASSES), size, replace=False))
        if some not in found:
            found.append(some)
    return found


def derived(
    sets: list[list[str]], jobs: int, folder: Path, calib: int = PICTURES, out: str = "fleet"
) -> dict[str, Any]:
    """The JSON of one call."""
    rows = [f'[[set]]\nname = "s{i}"\nclasses = {json.dumps(s)}\n' for i, s in enumerate(sets)]
    (folder / "sets.toml").write_text("\n".join(rows))
    options = {
        "class-sets": "sets.toml",
        "targets": "cpu",
        "alpha": ALPHA,
        "calib": f"fashion-mnist:{calib}",
        "jobs": jobs,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    call = [Path(sys.executable).parent / "edgevlm", "derive", "fashion-vit", *words]
    env = {**os.environ, "EDGEVLM_CACHE": str(folder / "cache")}
    said = subprocess.run(
        [*call, "-o", out, "--json", "--quiet"], cwd=folder, env=env, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(said.stdout)


def facts(told: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a call."""
    rows = told["sets"]
    gained = [r["accuracy"]["derived"] - r["accuracy"]["base_head_mask"] for r in rows]
    kept = ("jobs", "done", "failed", "seconds", "stages", "throughput", "peak_rss_mb")
    return {
        **{key: told[key] for key in (*kept, "worker_peak_rss_mb")},
        "gain": {"mean": mean(gained), "least": min(gained)},
        "macs": mean(r["macs"] for r in rows),
        "bytes": mean(r["bytes"] for r in rows),
    }


def second(seed: int) -> dict[str, Any]:
    """Each begins with nothing: three classes, then two of these, or three others."""
    names = [CLASSES[i] for i in np.random.default_rng((SEED, seed)).permutation(len(CLASSES))]
    first, some, others = sorted(names[:3]), sorted(names[:2]), sorted(names[3:6])
    found = {}
    for case, classes, calib in (
        ("known", some, PICTURES),
        ("known, more pictures", some, MORE),
        ("known, later call", some, PICTURES),
        ("new", others, PICTURES),
    ):
        with tempfile.TemporaryDirectory() as folder:
            later = case.endswith("call")
            told = [derived([first] if later else [first, classes], 1, Path(folder), calib)]
            if later:
                told.append(derived([classes], 1, Path(folder), calib, "later"))
        one, two = told[0]["sets"][0], told[-1]["sets"][-1]
        whole = told[0]["stages"]["base"]["seconds"] + one["seconds"]
        seconds = two["seconds"] + (told[1]["stages"]["base"]["seconds"] if later else 0)
        found[case] = {
            "calib": calib,
            "first_seconds": whole,
            "seconds": seconds,
            "share": seconds / whole,
            "stages": {k: v["seconds"] for k, v in two["stages"].items()},
        }
    return found


def main() -> None:
    sets, runs = drawn(), {}
    for jobs in sorted({1, os.cpu_count() or 1}):
        with tempfile.TemporaryDirectory() as folder:
            runs[jobs] = derived(sets, jobs, Path(folder))
    pairs = [second(seed) for seed in range(SEEDS)]
    data = {"model": "fashion-vit", "n": SETS, "sizes": SIZES, "alpha": ALPHA, "seed": SEED}
    rows = [facts(told) for told in runs.values()]
    write_result("fleet", {**data, "calib": PICTURES, "runs": rows, "second": pairs})


if __name__ == "__main__":
    main()
