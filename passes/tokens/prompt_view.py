"""Taps inside the language model: image tokens between words, at a row known at run time.

rows of the stream   [ words in front | N image tokens | words behind | idle ]
                       0 .. start       start ..          start + N .. last

Idle rows are behind everything and attention is causal, so they are felt nowhere but in sums over
rows; `used` and the mask of a `Text` keep them out of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.blocks import Block
from edgevlm.passes.tokens.projections import Projection, find_projection, find_rotary
from edgevlm.passes.tokens.stream_view import StreamView
from edgevlm.passes.tokens.view import Attending, Text

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
        return self._words(self.count, self.last, self.rows)

    def text_rows(self) -> Text:
        """Clipped to the stream, so that any prompt may be gathered; idle rows are masked.

        Where no word stands behind the image, the prompt's last token stands in for one.
        """
        return self._text

    def text(self, value: ir.Value | None = None, axis: int = 0) -> Text:
        source = self.flat(self.stream) if value is None else value
        rows = self.build("Gather", source, self._text.rows, axis=axis)
        return Text(rows, self._text.mask, self._text.count)

    def used(self) -> ir.Value:
        """float32 [L]: 1 for a row of the prompt, 0 for an idle one."""
        inside = self.build("LessOrEqual", self.build.const(np.arange(self.rows)), self.last)
        return self.build("Cast", inside, to=ir.DataType.FLOAT.value)

    def given(self) -> tuple[ir.Value, Text]:
        """Image tokens [N,D] and words [T,D] as the language model is given them, in front of all.

        The words are those of `text_rows`, in the same order.
        """
        build, contract = self.build, self.model.contract
        ports = {str(value.name): value for value in build.graph.inputs}
        embeds, count = self.flat(ports["inputs_embeds"]), contract.kept_image_tokens
        image = build("Add", self.start, build.const(np.arange(count)))
        words = self._words(count, ports["last_index"], contract.prefill_length)
        rows = build("Gather", embeds, words.rows, axis=0)
        return build("Gather", embeds, image, axis=0), Text(rows, words.mask, words.count)

    def rotation(self, back: int = 1) -> Attending:
        """The attention of one head whose q and k are all ones in front of the rotary embedding.

        It says what rows pay each other for where they stand, whatever they hold.
        """
        block = self._block(back)
        real, rows = self.attention(back), self.rows
        width = real.head_dim
        ones = self.const(np.ones((1, 1, rows, width)))
        turned = []
        for position in range(2):
            node = find_rotary(block.attention.inputs[position], block.normed)
            if node is None:
                raise self.missing("a rotary embedding", "this model's positions are added")
            spin = {n: a.value for n, a in node.attributes.items() if n != "num_heads"}
            spun = self.build(node.op_type, ones, *node.inputs[1:], **spin)
            turned.append(self.build("Squeeze", spun, self.build.const([0])))
        seen = (real.scale, 1, width, rows, rows, real.causal, real.mask)
        return Attending(*turned, turned[1], *seen)

    def projections(self) -> tuple[ir.Value, Projection, Projection]:
        """(what the next layer's q and k are projected from [L,D], their projections).

        Key heads are repeated to as many as q has. Refused where more than a projection and a
        rotary embedding stands in front of the attention.
        """
        block = self._at(0)
        seen = self.attention(0)
        made = [find_projection(block.attention.inputs[p], block.normed) for p in range(2)]
        if None in made:
            raise self.missing(
                "q and k that are plain projections",
                "here they are normalised, fused or quantised, so their weights do not multiply",
            )
        shared = made[1].bias.size // seen.head_dim
        heads = np.repeat(np.arange(shared), seen.heads // shared)
        columns = (heads[:, None] * seen.head_dim + np.arange(seen.head_dim)).reshape(-1)
        k = Projection(made[1].weight[:, columns], made[1].bias[columns])
        return self.flat(self._copy(block.normed)), made[0], k

    def choices_before(self) -> list[ir.Value]:
        """int64 [K] each: what earlier sites chose of the same tokens, which all came back."""
        outputs = {str(value.name): value for value in self.build.graph.outputs}
        return [
            outputs[f"image_index_{site.layer}"]
            for site in self.model.contract.sites
            if site.returns and (site.given, site.tokens) == (self.count, self.keep)
        ]

    # -- inside ----------------------------------------------------------------------------------
    def _words(self, images: int, last: ir.Value, rows: int) -> Text:
        """Rows of the words behind `images` image tokens, in a stream of so many rows."""
        build, count = self.build, self.model.contract.prompt_capacity
        first = build("Min", build("Add", self.start, build.const([images])), last)
        index = build("Add", first, build.const(np.arange(count)))
        mask = build("Cast", build("LessOrEqual", index, last), to=ir.DataType.FLOAT.value)
        return Text(build("Min", index, build.const([rows - 1])), mask, count)

    def _has_our_rows(self, block: Block) -> bool:
        """No site dropped tokens behind that block's entry, nor left some out of that block."""
        return not any(
            site.layer == block.index if site.returns else site.layer > block.index
            for site in self.model.contract.sites
        )
