"""What a person reads of a preflight: which compiler, for what, and what it made of each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevlm.commands.output import Speaker

__all__ = ["preflight_lines"]


def preflight_lines(speaker: Speaker, preflight: Mapping[str, Any] | None) -> None:
    """Nothing for a runtime that has none."""
    if preflight is None:
        return
    if not preflight["done"]:
        speaker.say(f"preflight: not done: {preflight['missing']}")
        return
    title = "; ".join(filter(None, (preflight["label"], preflight["note"])))
    speaker.table(f"preflight by {title}", **preflight["table"])
    for line in preflight["odd"]:
        speaker.say(f"preflight: {line}")
