"""Which passes run in which order for which runtime: the one table, with the reason per group.

A pipeline is the skeleton of a recipe. Groups marked with a flag join when the user asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.recipe import Recipe, Step

__all__ = ["PIPELINES", "QUANT_SCHEMES", "Flags", "Group", "compose"]


@dataclass(frozen=True)
class Flags:
    """What the command line asks for."""

    tokens: int | None = None  # image tokens to keep; None keeps all
    select: str = "dart"
    quant: str = "none"


@dataclass(frozen=True)
class Group:
    why: str
    passes: tuple[str, ...]


PIPELINES: dict[str, tuple[Group, ...]] = {
    "ort": (
        Group(
            "exporters repeat themselves; later passes match a small, plain graph",
            ("fold-constants", "merge-duplicates", "drop-zero-masks", "drop-dead"),
        ),
        Group(
            "only now is it plain which rows anybody reads",
            ("gather-early",),
        ),
        Group(
            "shapes before weights: calibration and scales must see the final shapes",
            ("keep-tokens",),
        ),
        Group("weights last: whatever removes weights has run", ("quantize-weights",)),
    ),
}

#: --quant -> the pass that does it
QUANT_SCHEMES = {"none": None, "w8": "quantize-weights"}


def compose(target: str, runtime: str, flags: Flags) -> Recipe:
    """The recipe for a target's runtime and flags. Raises EV202 for an unknown scheme."""
    if flags.quant not in QUANT_SCHEMES:
        raise UsageFault(
            "EV202",
            f"unknown quantisation scheme {flags.quant!r}",
            f"schemes: {', '.join(QUANT_SCHEMES)}",
            "edgevlm compile --help",
        )
    asked: dict[str, dict[str, object] | None] = {
        "keep-tokens": None
        if flags.tokens is None
        else {"keep": flags.tokens, "method": flags.select},
        "quantize-weights": {} if QUANT_SCHEMES[flags.quant] else None,
    }
    steps = []
    for name in (name for group in PIPELINES[runtime] for name in group.passes):
        options = asked.get(name, {})
        if options is not None:
            steps.append(Step(name, dict(options)))
    return Recipe(target, tuple(steps))
