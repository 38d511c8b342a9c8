"""What int8 KV caches cost and save: the section of docs/measurements.md."""

from __future__ import annotations

from typing import Any

from page import grid, load, provenance

__all__ = ["section"]

HEADINGS = [
    "model", "quant", "KV kB", "int8", "cache dB", "right %", "int8", "otherwise",
    "logits dB, median (worst)", "same words %", "decode ms", "int8", "ratio (95 %)",
]  # fmt: skip


def section() -> str:
    result = load("kv")
    return "\n\n".join(
        [
            "## Int8 KV caches",
            "`--kv int8` against float caches, all else equal. Scales from "
            f"{result['calibration']} questions of the training split, accuracy on "
            f"{result['questions']} of it: no test split. `otherwise`: questions answered rightly "
            "by one of the two alone. `logits`: "
            f"{result['spoken']} answers made to go on to {result['steps']} tokens, every step "
            "behind the first as long as the words before it are the same.",
            grid(HEADINGS, [_row(r) for r in result["rows"]]),
            f"decode: a step, median of {result['n']} requests a side in turns; the past is made "
            "float in every step.",
            provenance(result),
        ]
    )


def _row(r: dict[str, Any]) -> list[object]:
    name = r["model"] if r["tokens"] is None else f"{r['model']}, {r['tokens']} at {r['site']}"
    size, right, ms = r["kv_bytes"], r["accuracy"], r["decode_ms"]
    ratio, logits = r["decode_ratio"], r["logits_db"]
    return [
        name,
        r["quant"],
        f"{size['float'] / 1e3:.0f}",
        f"{size['int8'] / 1e3:.0f}",
        f"{r['cache_db']:.0f}",
        f"{100 * right['float']:.2f}",
        f"{100 * right['int8']:.2f}",
        r["otherwise"],
        f"{logits['median']:.0f} ({logits['worst']:.0f})",
        f"{100 * r['same_steps']:.0f}",
        f"{ms['float']:.3f}",
        f"{ms['int8']:.3f}",
        f"{ratio['median']:.2f} ({ratio['low']:.2f} - {ratio['high']:.2f})",
    ]
