"""Taps inside the language model: image tokens between words, at a row known at run time.

rows of the stream   [ words in front | N image tokens | words behind | idle ]
                       0 .. start       start ..          start + N .. last
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.stream_view import StreamView
from edgevlm.passes.tokens.view import Text

__all__ = ["PromptView"]


@dataclass
class PromptView(StreamView):
    """In front of a decoder layer. What words see of the image is causal: words come behind it."""

    start: ir.Value = None  # int64 [1], row of the first image token
    last: ir.Value = None  # int64 [1], row of the last word, in the stream at the site

    @cached_property
    def _image(self) -> ir.Value:
        return self.build("Add", self.start, self.build.const(np.arange(self.count)))

    def image_rows(self, value: ir.Value, axis: int = 0) -> ir.Value:
        return self.build("Gather", value, self._image, axis=axis)

    def last_index(self) -> ir.Value:
        return self.last

    @cached_property
    def _text(self) -> Text:
        build, count = self.build, self.model.contract.prompt_capacity
        first = build("Add", self.start, build.const([self.count]))
        rows = build("Add", first, build.const(np.arange(count)))
        mask = build("Cast", build("LessOrEqual", rows, self.last), to=ir.DataType.FLOAT.value)
        return Text(build("Min", rows, build.const([self.rows - 1])), mask, count)

    def text_rows(self) -> Text:
        """Clipped to the stream, so that any prompt may be gathered; idle rows are masked."""
        return self._text

    def text(self, value: ir.Value | None = None, axis: int = 0) -> Text:
        source = self.flat(self.stream) if value is None else value
        rows = self.build("Gather", source, self._text.rows, axis=axis)
        return Text(rows, self._text.mask, self._text.count)
