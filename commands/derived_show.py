"""What derivation made of a model, for a person: base, base + head mask and derived together."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker

__all__ = ["derived_lines"]

NAMES = {"base": "base", "base_head_mask": "base + head mask", "derived": "derived"}


def derived_lines(speaker: Speaker, derived: dict[str, Any] | None) -> None:
    """Nothing where no picture was held out."""
    if derived is None:
        return
    n, macs, size = derived["held_out"], derived["macs"], derived["weight_bytes"]
    rows = []
    for key, name in NAMES.items():
        cost = "derived" if key == "derived" else "base"
        share = f"{macs[cost] / macs['base']:.3f}"
        right = f"{derived['right'][key]} ({100 * derived['accuracy'][key]:.1f} %)"
        rows.append([name, right, f"{macs[cost] / 1e6:.1f}", share, f"{size[cost] / 1e6:.2f}"])
    speaker.table(
        f"{len(derived['classes'])} of {derived['of']} classes, {n} pictures held out "
        f"(fitted to {derived['fitted_to']} others)",
        ["model", f"right of {n}", "MMAC", "of base", "weights MB"],
        rows,
    )
