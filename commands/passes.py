"""`edgevlm passes list|show`: what there is, and the card of one."""

from __future__ import annotations

import inspect as source_of
import sys
from typing import Any

from edgevlm.passes import PASSES, find_pass

__all__ = ["list_passes", "show_pass"]


def list_passes() -> list[dict[str, Any]]:
    return [
        {"name": p.name, "summary": p.summary, "effect": p.effect.value, "paper": p.paper}
        for p in PASSES.values()
    ]


def show_pass(name: str) -> dict[str, Any]:
    """The card (file header), options with ranges, and order of one pass. Raises EV201."""
    found = find_pass(name)
    fields = found.Options.model_json_schema().get("properties", {})
    return {
        "schema": 1,
        "name": found.name,
        "summary": found.summary,
        "effect": found.effect.value,
        "paper": found.paper,
        "after": list(found.after),
        "card": source_of.cleandoc(sys.modules[found.__module__].__doc__ or ""),
        "options": {
            key: {k: v for k, v in spec.items() if k != "title"} for key, spec in fields.items()
        },
    }
