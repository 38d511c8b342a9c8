"""FastV: keep what the last word looks at (ECCV 2024, arXiv 2403.06764).

In front of decoder layer 2, tokens are ranked by the attention that the prompt's last word paid
them in layer 1, mean over heads. Only that one row is computed, beside the fused Attention node.
Known to favour the end of the sequence and attention sinks. Depends on the question.
"""

from __future__ import annotations

from edgevlm.passes.tokens.method import Method, Pieces
from edgevlm.passes.tokens.pieces.scores import last_word_attention
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.view import View

__all__ = ["FastV"]


class FastV(Method):
    name = "fastv"
    summary = "attention of the prompt's last word, one layer earlier"
    paper = "2403.06764"
    sites = ("llm",)
    text_aware = True

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=top, score=last_word_attention)
