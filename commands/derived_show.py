"""What derivation made of a model, for a person: base, base + head mask and derived together.

And what a budget in ms came to: predicted by the table, measured of the finished artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevlm.commands.output import Speaker

__all__ = ["derived_lines"]

NAMES = {"base": "base", "base_head_mask": "base + head mask", "derived": "derived"}


def derived_lines(speaker: Speaker, derived: Mapping[str, Any] | None) -> None:
    """Nothing where no picture was held out, and no time was asked for."""
    if derived is None:
        return
    if "held_out" in derived:
        _compared(speaker, derived)
    if "latency" in derived:
        _timed(speaker, derived["latency"])


def _compared(speaker: Speaker, derived: Mapping[str, Any]) -> None:
    n, macs, size = derived["held_out"], derived["macs"], derived["weight_bytes"]
    rows = []
    for key in (name for name in NAMES if name in derived["right"]):
        cost = "derived" if key == "derived" else "base"
        share = f"{macs[cost] / macs['base']:.3f}"
        right = f"{derived['right'][key]} ({100 * derived['accuracy'][key]:.1f} %)"
        rows.append(
            [NAMES[key], right, f"{macs[cost] / 1e6:.1f}", share, f"{size[cost] / 1e6:.2f}"]
        )
    speaker.table(
        f"{_title(derived)} held out (fitted to {derived['fitted_to']} others)",
        ["model", f"right of {n}", "MMAC", "of base", "weights MB"],
        rows,
    )


def _title(derived: Mapping[str, Any]) -> str:
    n = derived["held_out"]
    if derived["kind"] == "domain":
        return f"domain-specific ({derived['domain'][:60]}): {n} questions"
    return f"{len(derived['classes'])} of {derived['of']} classes, {n} pictures"


def _timed(speaker: Speaker, latency: Mapping[str, Any]) -> None:
    reached = f"{latency['measured_ms']:.3g}  ({latency['low_ms']:.3g} - {latency['high_ms']:.3g})"
    rows = [
        ["budget", f"{latency['budget_ms']:g}"],
        ["predicted by the table", f"{latency['predicted_ms']:.3g}"],
        ["measured", reached],
        ["before, in turns with it", f"{latency['base_ms']:.3g}"],
    ]
    title = f"vision part, ms (p50 and its 95 % interval, n = {latency['n']}, this host)"
    speaker.table(title, ["", "ms"], rows)
