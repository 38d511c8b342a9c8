"""`edgevlm passes list|show`: what there is, and the card of one pass or token reduction method."""

from __future__ import annotations

import inspect as source_of
import sys
from difflib import get_close_matches
from typing import Any

from edgevlm.commands.methods import options_of, show_method
from edgevlm.compiler.errors import UsageFault
from edgevlm.passes import PASSES
from edgevlm.passes.tokens.methods import METHODS

__all__ = ["list_passes", "show_pass"]


def list_passes() -> list[dict[str, Any]]:
    return [
        {"name": p.name, "summary": p.summary, "effect": p.effect.value, "paper": p.paper}
        for p in PASSES.values()
    ]


def show_pass(name: str) -> dict[str, Any]:
    """The card (file header), options with ranges, and order of one. Raises EV201."""
    if name in METHODS:
        return show_method(name)
    if name not in PASSES:
        names = [*PASSES, *METHODS]
        near = get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise UsageFault(
            "EV201",
            f"no pass and no method is called {name[:60]!r}",
            f"the nearest: {', '.join(near)}",
            "edgevlm passes list",
        )
    found = PASSES[name]
    return {
        "schema": 1,
        "kind": "pass",
        "name": found.name,
        "summary": found.summary,
        "effect": found.effect.value,
        "paper": found.paper,
        "after": list(found.after),
        "card": source_of.cleandoc(sys.modules[found.__module__].__doc__ or ""),
        "options": options_of(found),
    }
