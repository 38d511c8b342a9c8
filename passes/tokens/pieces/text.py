"""The question as one vector: the mean of its words' embeddings, in the language model's own space.

Papers take CLIP's text encoder for it. A compiled VLM has none; its own word embeddings live where
the projected image tokens live, so their mean is what an image token is held against.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.passes.tokens.pieces.kernels import transposed, unit
from edgevlm.passes.tokens.pieces.scores import weighed
from edgevlm.passes.tokens.view import View

__all__ = ["mean_text", "text_cosine"]


def mean_text(view: View) -> ir.Value:
    """float32 [D]: the mean of the words behind the image, idle rows left out."""
    words = view.text()
    return weighed(view, words.rows, words.mask)


def text_cosine(view: View) -> ir.Value:
    """float32 [N]: cosine of each token and the mean of the words."""
    build = view.build
    mean = build("Unsqueeze", mean_text(view), build.const([0]))  # [1,D]
    match = build("MatMul", unit(view, view.tokens), transposed(view, unit(view, mean)))
    return build("Reshape", match, build.const([view.count]))
