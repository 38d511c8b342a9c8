"""Accuracy, time and place of every token reduction on the bundled models."""

from __future__ import annotations

import statistics
from typing import Any

from page import grid, load, provenance

ACCURACY = ("easy_vqa", "scenes")
ALL = "100%"  # of tokens: what a method without a budget keeps
P = 0.01  # two-sided, question by question on the same pictures


def section() -> str:
    """Both bundled models."""
    intro = (
        "## Token reduction\n\nEvery method of [tokens](tokens.md) with its default options at "
        "its own sites. Nothing was tuned on a test split."
    )
    tables = [accuracy(load(f"reduction_{name}")) for name in ACCURACY]
    return "\n\n".join([intro, *tables])


def accuracy(result: dict[str, Any]) -> str:
    """Accuracy of every method at every budget, and which of them beat random."""
    budgets, names, by_case = cases_of(result)
    chance = [_random(result, b) for b in budgets]
    rows: list[list[object]] = [["random, mean ± sd", _sites(result, "random:seed=0"), *chance]]
    for name in names:
        if not name.startswith("random"):
            cells = [_accuracy(by_case.get((name, b))) for b in budgets]
            rows.append([f"`{name}`", _sites(result, name), *cells])
    base = result["unpruned"]
    text = [
        f"### {result['model']} on {result['dataset']} {result['split']}",
        f"Accuracy in %, n = {result['n']} questions about {result['pictures']} pictures; without "
        f"pruning {100 * base['accuracy']:.2f}. **+** better and **-** worse than the mean of "
        f"{result['seeds']} random draws, question by question on the same pictures, p < {P} "
        "(sign flips by picture, two-sided, not corrected for the number of cells). Default "
        "options, nothing tuned on this split. Sites are each method's own; a late one is easier, "
        "since the decoder has seen every token up to there, and saves less.",
        grid(["method", "tokens leave at", *(f"{b} of tokens" for b in budgets)], rows),
        _verdict(result, names, budgets, by_case),
        "Milliseconds to the first token, the choice of tokens included, and their ratio to no "
        f"pruning (below 1 is faster), turn about, median of {_timed(result)} requests:",
        grid(
            ["method", *budgets],
            [
                [f"`{n}`", *(_ratio(by_case.get((n, b))) for b in budgets)]
                for n in names
                if not n.startswith("random") or n.endswith("=0")
            ],
        ),
        "Do they lean? Kolmogorov-Smirnov distance of kept places, in raster order, from an even "
        "spread over the picture (0 is even; what is in the picture is not even either):",
        grid(
            ["method", *budgets],
            [
                [f"`{n}`", *(_lean(by_case.get((n, b))) for b in budgets)]
                for n in names
                if not n.startswith("random") or n.endswith("=0")
            ],
        ),
        provenance(result),
    ]
    return "\n\n".join(text)


def cases_of(
    result: dict[str, Any],
) -> tuple[list[str], list[str], dict[tuple[str, str], Any]]:
    """Budgets, methods, and rows by both; a method without a budget has its row under ALL."""
    by_case = {(r["method"], r["budget"] or ALL): r for r in result["rows"]}
    return *(list(dict.fromkeys(case[i] for case in by_case)) for i in (1, 0)), by_case


def _sites(result: dict[str, Any], name: str) -> str:
    """The method's own, of its first row."""
    row = next((r for r in result["rows"] if r["method"] == name and "steps" in r), None)
    places = [str(step["at"]) for step in row["steps"] if "at" in step] if row else []
    if len(places) > 3:
        places = [places[0], "...", places[-1]]
    return ", ".join(places) or "its own pass"


def _lean(row: dict[str, Any] | None) -> str:
    return "" if row is None or "places" not in row else f"{row['places']['ks']:.2f}"


def _random(result: dict[str, Any], budget: str) -> str:
    values = [
        100 * r["score"]["accuracy"]
        for r in result["rows"]
        if r["method"].startswith("random") and r["budget"] == budget
    ]
    if not values:
        return ""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def _accuracy(row: dict[str, Any] | None) -> str:
    if row is None or "score" not in row:
        return "refused" if row else ""
    return f"{100 * row['score']['accuracy']:.2f}{_sign(row)}"


def _sign(row: dict[str, Any]) -> str:
    found = row.get("against_random")
    if found is None or found["p"] >= P:
        return ""
    return " **+**" if found["difference"] > 0 else " **-**"


def _verdict(
    result: dict[str, Any],
    names: list[str],
    budgets: list[str],
    by_case: dict[tuple[str, str], dict[str, Any]],
) -> str:
    lines = []
    for budget in (b for b in budgets if b != ALL):
        signs: dict[str, list[str]] = {" **+**": [], " **-**": [], "": []}
        for name in names:
            row = by_case.get((name, budget))
            if row and "against_random" in row:
                signs[_sign(row)].append(name)
        said = [", ".join(signs[mark]) or "none" for mark in (" **+**", "", " **-**")]
        lines.append(
            f"- {budget}: beat random: {said[0]}; no difference shown: {said[1]}; worse: {said[2]}."
        )
    return "\n".join(lines)


def _ratio(row: dict[str, Any] | None) -> str:
    if row is None or "time" not in row:
        return ""
    ratio = row["time"]["first_token_ratio"]
    spread = f"{ratio['median']:.2f}, {ratio['low']:.2f}-{ratio['high']:.2f}"
    return f"{row['time']['after_ms']:.2f} ({spread})"


def _timed(result: dict[str, Any]) -> int:
    return next(r["time"]["n"] for r in result["rows"] if "time" in r)
