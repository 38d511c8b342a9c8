"""HTTM: queries and keys merge inside the encoder's attention, head by head (CVPR 2026).

All tokens stay, so it has no budget: `--prune httm` alone, without `--tokens`. A pass of its own,
`merge-attention` (`edgevlm passes show merge-attention`), which says what is merged and copied
back, and what it refuses; in a recipe it can be told in which blocks of the encoder. It pays where
rows are many: above some 500 in ONNX Runtime on a CPU.
"""

from __future__ import annotations

from pydantic import create_model

from edgevlm.passes.tokens.merge_attention import MergeAttentionOptions
from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.sites import Site

__all__ = ["Httm"]

OWN = ("queries", "keys", "back", "targets", "block", "proportional")
FIELDS = {name: MergeAttentionOptions.model_fields[name] for name in OWN}


class Httm(Method):
    name = "httm"
    summary = "queries and keys merge inside the encoder's attention and come back"
    evidence = "R"
    lowering = "B"
    sites = ()
    as_pass = "merge-attention"
    budgeted = False
    Options = create_model(
        "HttmOptions", __base__=MethodOptions, **{n: (f.annotation, f) for n, f in FIELDS.items()}
    )

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return []
