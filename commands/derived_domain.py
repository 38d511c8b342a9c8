"""What a VLM derived for a domain is worth: base and itself, on questions about pictures held out.

Every fifth picture of the domain, with all questions about it, is shown to nothing that fits or
chooses. An answer is right as `edgevlm eval` has it: word for word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgevlm.commands.derived import HELD, Split, vision_costs
from edgevlm.commands.evaluate import score
from edgevlm.compiler.beside import Probe
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import Dataset, Row

__all__ = ["compare_domain", "split_rows"]


def split_rows(probes: Sequence[Probe]) -> Split:
    """By pictures, so that none is on both sides. Raises EV139 for fewer than five of them."""
    places: dict[tuple[object, ...], int] = {}
    which = [
        places.setdefault((p.image.shape, p.image.tobytes()), len(places)) % HELD for p in probes
    ]
    if len(places) < HELD:
        raise UsageFault(
            "EV139",
            f"a domain of {len(places)} pictures",
            f"every {HELD}th is held out to tell what the model is worth",
            f"{HELD} pictures at least, better some hundred",
        )
    return Split(
        tuple(p for p, turn in zip(probes, which, strict=True) if turn != HELD - 1),
        tuple(p for p, turn in zip(probes, which, strict=True) if turn == HELD - 1),
    )


def compare_domain(
    domain: str, original: ExportedModel, model: ExportedModel, parts: PartCaller, split: Split
) -> dict[str, Any]:
    """The two side by side. original: the same compile, without what derives."""
    right = {
        "base": _right(original, ReferenceParts(original.parts), split.held),
        "derived": _right(model, parts, split.held),
    }
    n = len(split.held)
    return {
        "kind": "domain",
        "domain": domain,
        "fitted_to": len(split.fit),
        "held_out": n,
        "right": right,
        "accuracy": {name: round(count / n, 4) for name, count in right.items()},
        **vision_costs(original, model),
        "how": "measured-host",
    }


def _right(model: ExportedModel, parts: PartCaller, held: Sequence[Probe]) -> int:
    answerer = Answerer(model.contract, model.processor, model.tokenizer, parts)
    rows = tuple(Row(p.image, p.question, p.answer or "", "held out") for p in held)
    found = score(answerer, Dataset("domain", "held out", rows, "", ("held out",)))
    return found["overall"]["correct"]
