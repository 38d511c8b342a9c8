"""The token reduction methods as `edgevlm passes` shows them: facts of the class, in words."""

from __future__ import annotations

import inspect as source_of
import sys
from typing import Any

from edgevlm.passes.tokens.forms import FORMS, why_not
from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import Site

__all__ = ["EVIDENCE", "LOWERING", "PERMUTATION", "list_methods", "options_of", "show_method"]

EVIDENCE = {
    "C": "the method's public code was read",
    "N": "from a note of the paper; its code was not read",
    "R": "reconstructed in part; the card says where",
}
LOWERING = {
    "A": "scores, TopK and Gather",
    "B": "matrix products and TopK, without a loop",
    "C": "a chain of arg-max steps, one a token, unrolled or in blocks",
    "D": "a small dense solve, in float32",
    "E": "a trained network inside the graph",
}
PERMUTATION = {
    "equivariant": "by what tokens are: permute them and the choice moves with them",
    "grid": "by where tokens lie in the grid, too",
    "order": "by the order of tokens, too",
}
#: of the example that shows where one number falls: LLaVA-1.5
LAYERS, BLOCKS, TOKENS, KEEP = 32, 24, 576, 64


def list_methods() -> list[dict[str, Any]]:
    return [
        {
            "name": m.name,
            "summary": m.summary,
            "sites": list(m.sites),
            "lowering": m.lowering,
            "text_aware": m.text_aware,
            "evidence": m.evidence,
            "paper": m.paper,
        }
        for m in METHODS.values()
    ]


def show_method(name: str) -> dict[str, Any]:
    """The card (file header), options and promises of one method of `METHODS`."""
    cls = METHODS[name]
    made = cls()
    return {
        "schema": 1,
        "kind": "method",
        "name": cls.name,
        "summary": cls.summary,
        "paper": cls.paper,
        "evidence": {"tag": cls.evidence, "words": EVIDENCE[cls.evidence]},
        "lowering": {"class": cls.lowering, "words": LOWERING[cls.lowering]},
        "sites": list(cls.sites),
        "as_pass": cls.as_pass,
        "budgeted": cls.budgeted,
        "text_aware": cls.text_aware,
        "permutation": {"class": cls.permutation, "words": PERMUTATION[cls.permutation]},
        "restore": cls.restore,
        "calibrated": cls.calibrated,
        "least": {kind: made.least(Site.at(kind)) for kind in cls.sites},
        "example": _example(made),
        "forms": {form: why_not(FORMS[form], cls.greedy, cls.lowering) or None for form in FORMS},
        "stand_in": cls.stand_in,
        "card": source_of.cleandoc(sys.modules[cls.__module__].__doc__ or ""),
        "options": options_of(cls),
    }


def options_of(cls: type[Method] | type) -> dict[str, dict[str, Any]]:
    """option -> JSON schema with type, default, range and description."""
    fields = cls.Options.model_json_schema().get("properties", {})
    return {key: {k: v for k, v in spec.items() if k != "title"} for key, spec in fields.items()}


def _example(made: Method) -> dict[str, Any]:
    """Where the method goes in a model of LLaVA's size, and what one number falls to there."""
    sites = made.default_sites(LAYERS, BLOCKS)
    return {
        "layers": LAYERS,
        "blocks": BLOCKS,
        "tokens": TOKENS,
        "keep": KEEP,
        "sites": [str(site) for site in sites],
        "budgets": made.budgets(TOKENS, KEEP, sites) if sites else [KEEP],
    }
