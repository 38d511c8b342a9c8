"""What every method saves on the LLaVA-shaped model: behind the tower, a token, in the cache."""

from __future__ import annotations

import statistics
from typing import Any

from page import grid, load, provenance
from tables_reduction import cases_of

AIM = 3  # times as fast behind the tower at 25 % of tokens


def section() -> str:
    result = load("llava")
    budgets, names, by_case = cases_of(result)
    cells = {
        "Milliseconds to the first token behind the vision tower (connector, selector, prefill), "
        f"and how many times as fast as no pruning ({_before(result, 'behind_tower'):.0f} ms)": (
            lambda r: f"{_after(r, 'behind_tower'):.0f} ({_speed(r, 'behind_tower'):.2f}x)"
        ),
        f"Milliseconds a decoded token (without pruning {_before(result, 'decode'):.1f})": (
            lambda r: f"{_after(r, 'decode'):.1f}"
        ),
        f"KV cache, MB (without pruning {_kv(result):.1f})": (
            lambda r: f"{r['kv_bytes']['after'] / 1e6:.1f}"
        ),
    }
    text = [
        "### A LLaVA-shaped model, 576 image tokens",
        f"Tower: {result['tower']}. Language model: {result['language']}. "
        f"{result['parameters'] / 1e6:.0f} million weights, {result['words']} words beside the "
        f"image. n = {result['n']} turns with the unpruned model, after one uncounted; a case with "
        "ratios more than 1.35 apart was measured once more, and that is what stands here. The "
        "result file has the intervals.",
    ]
    for title, show in cells.items():
        rows = [[f"`{n}`", *(_cell(by_case.get((n, b)), show) for b in budgets)] for n in names]
        text += [f"{title}:", grid(["method", *budgets], rows)]
    inside = [n for n in names if any(_tower(by_case.get((n, b))) for b in budgets)]
    quarter = [by_case[n, "25%"] for n in names if "stages" in by_case.get((n, "25%"), ())]
    fast = [r["method"] for r in quarter if _speed(r, "behind_tower") >= AIM]
    text += [
        f"At 25% of tokens {len(fast)} of {len(quarter)} are at least {AIM} times as fast to the "
        f"first token behind the tower: {', '.join(fast)}."
    ]
    tower = [[f"`{n}`", *(_tower(by_case.get((n, b))) for b in budgets)] for n in inside]
    text += ["The vision tower itself, where the site lies inside it, speed:"]
    return "\n\n".join([*text, grid(["method", *budgets], tower), provenance(result)])


def _before(result: dict[str, Any], stage: str) -> float:
    """Of the unpruned model, which took turns with every case: the median of all."""
    ran = [r["stages"][stage]["before_ms"] for r in result["rows"] if "stages" in r]
    return statistics.median(ran)


def _after(row: dict[str, Any], stage: str) -> float:
    return row["stages"][stage]["after_ms"]


def _speed(row: dict[str, Any], stage: str) -> float:
    return row["stages"][stage]["speed"]["median"]


def _kv(result: dict[str, Any]) -> float:
    return next(r["kv_bytes"]["before"] / 1e6 for r in result["rows"] if "kv_bytes" in r)


def _cell(row: dict[str, Any] | None, show: Any) -> str:
    if row is None:
        return ""
    return show(row) if "stages" in row else "refused"


def _tower(row: dict[str, Any] | None) -> str:
    stage = row["stages"].get("vision") if row and "stages" in row else None
    if stage is None or stage["before_ms"] < 1:  # not run: no site inside it
        return ""
    return f"{stage['speed']['median']:.2f}"
