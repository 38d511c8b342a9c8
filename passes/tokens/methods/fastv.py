"""FastV: keep what the last word looks at (ECCV 2024, arXiv 2403.06764).

    s_i = mean over heads of softmax(q_last K^T / sqrt(d))_i in layer L - 1;  keep the K largest

In front of decoder layer L (published: 2), tokens are ranked by the attention that the prompt's
last word paid them one layer earlier. Public code switches the whole attention matrix on for that
layer; here one row is computed beside the fused Attention node. Positions stay, as in the code.
Depends on the question, so tokens cannot be reused for another one. Known to favour the end of the
sequence and attention sinks. Refuses llm:0, where no attention came before.
"""

from __future__ import annotations

from edgevlm.passes.tokens.method import Method, Pieces
from edgevlm.passes.tokens.pieces.scores import last_word_attention
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["FastV"]


class FastV(Method):
    name = "fastv"
    summary = "attention of the prompt's last word, one layer earlier"
    paper = "2403.06764"
    sites = ("llm",)
    text_aware = True
    stand_in = "v2drop"

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("llm", max(1, min(2, layers - 1)))]

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=top, score=last_word_attention)
