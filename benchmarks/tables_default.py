"""Which method fits where the user names none: accuracy by kind of site, on no test split."""

from __future__ import annotations

import statistics
from typing import Any

from page import grid, load, provenance


def section() -> str:
    result = load("default")
    tried = [t["dataset"] for t in result["tried"]]
    splits = " and ".join(f"{t['model']} on {t['dataset']} {t['split']}" for t in result["tried"])
    text = [
        "### Where no method is named",
        f"Accuracy in % at {result['budget']} of tokens, {splits}, {result['n']} questions each: "
        "no test split. Every method at each kind of site it works at, best first. What "
        "`--tokens` takes without `--prune` was chosen by this and by the times above "
        "([schedule.py](../passes/tokens/schedule.py)).",
    ]
    for kind in dict.fromkeys(r["kind"] for r in result["rows"]):
        cases: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for r in (r for r in result["rows"] if r["kind"] == kind):
            cases.setdefault((r["method"].partition(":")[0], _sites(r)), []).append(r)
        found = [_line(*case, rows, tried) for case, rows in cases.items()]
        found.sort(key=lambda line: -line[0])
        text.append(grid([kind, "leave at", *tried, "mean"], [line[1] for line in found]))
    return "\n\n".join([*text, provenance(result)])


def _sites(row: dict[str, Any]) -> str:
    places = [str(step["at"]) for step in row.get("steps", ())]
    return "block by block" if len(places) > 2 and "vision" in places[-1] else ", ".join(places)


def _line(
    name: str, where: str, rows: list[dict[str, Any]], tried: list[str]
) -> tuple[float, list[object]]:
    """(what to sort by, the row): the mean of seeds where there are several."""
    right = [(r["dataset"], 100 * r["score"]["accuracy"]) for r in rows if "score" in r]
    scores = []
    for dataset in tried:
        ran = [accuracy for d, accuracy in right if d == dataset]
        scores.append(statistics.mean(ran) if ran else None)
    mean = statistics.mean(scores) if None not in scores else -1.0
    shown = ["refused" if s is None else f"{s:.2f}" for s in scores]
    return mean, [f"`{name}`", where, *shown, "" if mean < 0 else f"{mean:.2f}"]
