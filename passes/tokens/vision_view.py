"""Taps inside the vision encoder and at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.key_bias import sizes_told
from edgevlm.passes.tokens.stream_view import StreamView

__all__ = ["VisionView"]

#: queries whose attention is averaged where there is no class token; a full column mean would need
#: the N x N matrix
PROXY_QUERIES = 16


@dataclass
class VisionView(StreamView):
    """`first` rows in front of the patches are class or register tokens and always stay."""

    first: int = 0

    def image_rows(self, value: ir.Value, axis: int = 0) -> ir.Value:
        bounds = (self.build.const([n]) for n in (self.first, self.first + self.count, axis))
        return self.build("Slice", value, *bounds)

    def class_attention(self) -> ir.Value:
        """softmax(q_class k^T) over all rows, mean over heads, of the last block before the site.

        Without a class token the mean over evenly spread patches' queries stands in (noted).
        """
        paid = self.paid(self.attention(1), self.class_rows())
        return self.build("ReduceMean", paid, self.build.const([0, 1]), keepdims=0)

    def class_rows(self) -> list[int]:
        """The class token's row, or rows of evenly spread patches that stand in for it (noted)."""
        if self.first:
            return [0]
        few = min(PROXY_QUERIES, self.rows)
        self.note(f"no class token: the mean attention of {few} evenly spread patches stands in")
        return ((np.arange(few) + 0.5) * self.rows / few).astype(np.int64).tolist()

    def sizes(self) -> ir.Value:
        """What earlier sites told later attention of their merged tokens (key_bias.py)."""
        block = self.blocks[min(self.depth, len(self.blocks) - 1)]
        if not self._has_our_rows(block):
            self.note("behind the last attention sizes of merged tokens are not known: one each")
            return self.const(np.ones(self.count))
        sizes = sizes_told(self.build, block.attention)
        return self.const(np.ones(self.count)) if sizes is None else self.image_rows(sizes)

    def pixels(self) -> ir.Value:
        """[N, 3*h*w] of the picture as the model is given it (normalised)."""
        build, contract = self.build, self.model.contract
        rows, columns = contract.grid
        high, wide = contract.image_height // rows, contract.image_width // columns
        patch = self._patch()
        whole = (rows * high, columns * wide) == (contract.image_height, contract.image_width)
        if not whole or high % patch[0] or wide % patch[1]:
            raise self.missing(
                "the pixels under each token", "the picture is no whole grid of them"
            )
        picture = next(v for v in build.graph.inputs if v.name == "pixel_values")
        split = build("Reshape", picture, build.const([3, rows, high, columns, wide]))
        turned = build("Transpose", split, perm=[1, 3, 0, 2, 4])
        flat = build("Reshape", turned, build.const([rows * columns, 3 * high * wide]))
        return flat if self.places is None else build("Gather", flat, self.places, axis=0)

    def _patch(self) -> tuple[int, int]:
        """Pixels that the encoder takes together; 1 x 1 where no convolution reads the picture.

        A token of a smaller picture (resize-image) covers more of the grid than one place.
        """
        picture = next(v for v in self.build.graph.inputs if v.name == "pixel_values")
        for node, _ in picture.uses():
            if node.op_type == "Conv":
                return tuple(node.attributes.get_ints("strides", (1, 1)))
        return 1, 1
