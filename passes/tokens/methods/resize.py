"""resize: shrink the picture until the encoder makes at most K tokens; no token is chosen.

The baseline that most papers leave out: it also saves the encoder's work, and on pictures without
small things it is hard to beat. A pass of its own, `resize-image` (`edgevlm passes show
resize-image`), which says what it refuses; there is no site. Rows x columns keep about the shape of
the grid, so the real number of tokens may be smaller than K, and the record says so.
"""

from __future__ import annotations

from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.sites import Site

__all__ = ["Resize"]


class Resize(Method):
    name = "resize"
    summary = "a smaller picture, so that the encoder itself makes about K tokens"
    sites = ()
    permutation = "grid"
    as_pass = "resize-image"

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return []
