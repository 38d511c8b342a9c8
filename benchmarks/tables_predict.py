"""Predictions against measurements on the machine where both can be had."""

from __future__ import annotations

from typing import Any

from page import grid, load, provenance

__all__ = ["section"]

SCHEMES = {"none": "float"}


def section() -> str:
    result = load("predict")
    stages = [
        [
            f"{row['model']}, {SCHEMES.get(row['scheme'], row['scheme'])}" if not place else "",
            name,
            _ms(stage["predicted_ms"]),
            _ms(stage["measured_ms"]),
            f"{stage['ratio']:.2f} [{stage['least']:.2f}-{stage['most']:.2f}]",
            stage["n"],
        ]
        for row in result["rows"]
        for place, (name, stage) in enumerate(row["stages"].items())
    ]
    memory = [
        [
            f"{row['model']}, {SCHEMES.get(row['scheme'], row['scheme'])}",
            *(_mb(row["memory"][f"{end}_bytes"]) for end in ("least", "most", "taken")),
        ]
        for row in result["rows"]
    ]
    rates = ", ".join(map(_rate, result["rates"]))
    return "\n\n".join(
        [
            "## Predictions against measurements",
            "Stages by the formulas of [prediction.md](prediction.md) with the rates that this "
            f"machine was measured to have, one thread on one core: {rates}. Ratio: measured by "
            f"predicted, the median of {result['rounds']} rounds and their range, each with rates "
            "and times of its own. The weights of ViT-B/16 are random."
            + (f" **{result['note']}**" if result["note"] else ""),
            grid(["model", "stage", "predicted ms", "measured ms", "ratio", "n"], stages),
            "Memory: what was counted, caches left out, and what a process took to open the bundle "
            "and run every part, having opened another one before. ONNX Runtime's own sessions are "
            "not counted.",
            grid(["model", "at least MB", "at most MB", "taken MB"], memory),
            provenance(result),
        ]
    )


def _rate(fact: dict[str, Any]) -> str:
    return (
        f"{fact['what']} {fact['median']:.3g} {fact['unit']} "
        f"({fact['least']:.3g}-{fact['most']:.3g})"
    )


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f}"
