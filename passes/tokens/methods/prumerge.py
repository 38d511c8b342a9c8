"""LLaVA-PruMerge+: class attention, spread tokens, and one for all that leave (ICCV 2025,
arXiv 2403.15388).

    s        softmax(q_class k^T / sqrt(C)), one head over the full width C of the last block
    keep     the tokens of largest s, and every n-th of the others
    merge    x_i + sum of s_j x_j over the 32 tokens of nearest key, kept or not; not normalised
    one more sum of s_j x_j over all tokens that are not kept

Published code keeps as many tokens as stand out of s (above Q3 + 1.5 IQR), about three times as
many spread ones, and appends the one more; the number is the picture's. Here K is fixed and counts
all tokens given out: a quarter of K - 1 by s (`top`), the rest spread over what is left, and the
one more, which stands at the place of the largest s among those that leave (R). What the IQR rule
would keep of the probe pictures is told in the record, so that K can be set by it. Distances are of
keys over the full width. Ties at the 32nd neighbour all take part. The sums are not normalised, so
magnitudes grow: integer ranges must be calibrated behind this step. The last block of an encoder
exported up to its last layer but one is one before the published one. `extra=false` leaves the one
more out. Without a class token a mean over patches' queries stands in, noted in the record.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import ascending, largest, marked
from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.pieces.bipartite import members, remaining
from edgevlm.passes.tokens.pieces.contextual import every
from edgevlm.passes.tokens.pieces.kernels import transposed, unit
from edgevlm.passes.tokens.pieces.outliers import note_outliers
from edgevlm.passes.tokens.view import Attending, Choice, View

__all__ = ["PruMerge"]

BEHIND = -1e30  # of a likeness that does not count


class PruMergeOptions(MethodOptions):
    top: float = Field(0.25, ge=0, le=1, description="share of kept tokens by attention (R)")
    neighbours: int = Field(32, ge=1, le=4096, description="tokens summed into each kept one")
    extra: bool = Field(True, description="one of K is the sum of all that leave, from K = 2 on")


class PruMerge(Method):
    name = "prumerge"
    summary = "class attention and spread tokens, each with its neighbours summed in"
    paper = "2403.15388"
    lowering = "B"
    sites = ("vision-out", "vision")
    permutation = "order"  # spread in raster order
    calibrated = True
    Options = PruMergeOptions

    def choose(self, view: View) -> Choice:
        build, count, keep = view.build, view.count, view.keep
        seen = _one_head(view, view.attention(1))
        paid = view.paid(seen, view.class_rows())
        score = build("ReduceMean", paid, build.const([0, 1]), keepdims=0)  # [N]
        note_outliers(view, score, self.calibration)
        extra = self.options.extra and keep > 1
        kept = self._kept(view, score, keep - extra)
        rows = unit(view, build("Squeeze", view.image_rows(seen.k, 1), build.const([0])))
        if not extra:
            return Choice(kept, build("MatMul", self._weight(view, rows, kept, score), view.tokens))
        stays = marked(build, kept, count)
        leaves = build("Sub", view.const(1.0), stays)
        last = largest(build, view.form, score, count, 1, stays)
        index = ascending(build, build("Concat", kept, last, axis=0), keep)
        is_last = build("Unsqueeze", build("Equal", index, last), build.const([1]))  # [K,1]
        weight = self._weight(view, rows, index, score)
        weight = build("Where", is_last, build("Mul", leaves, score), weight)
        return Choice(index, build("MatMul", weight, view.tokens))

    def _kept(self, view: View, score: ir.Value, keep: int) -> ir.Value:
        """int64 [keep], ascending: the largest scores, and every n-th of the others."""
        build, count = view.build, view.count
        few = keep if self.options.top == 1 else max(1, round(self.options.top * keep))
        first = largest(build, view.form, score, count, few)
        if few == keep:
            return ascending(build, first, keep)
        pool = remaining(build, marked(build, first, count), count, count - few)
        spread = build("Gather", pool, build.const(every(count - few, keep - few)), axis=0)
        return ascending(build, build("Concat", first, spread, axis=0), keep)

    def _weight(self, view: View, rows: ir.Value, index: ir.Value, score: ir.Value) -> ir.Value:
        """float32 [K,N]: 1 for a kept token itself, s_j for its neighbours of nearest key."""
        build, count = view.build, view.count
        itself = members(build, index, build.const(np.arange(count)))
        likeness = build("MatMul", build("Gather", rows, index, axis=0), transposed(view, rows))
        likeness = build("Add", likeness, build("Mul", itself, view.const(BEHIND)))
        few = build.const([min(self.options.neighbours, count - 1)])
        values = build("TopK", likeness, few, outputs=2, axis=1)[0]
        edge = build("ReduceMin", values, build.const([1]), keepdims=1)
        near = build("Cast", build("GreaterOrEqual", likeness, edge), to=ir.DataType.FLOAT.value)
        return build("Add", itself, build("Mul", near, score))


def _one_head(view: View, seen: Attending) -> Attending:
    """All heads side by side as one of the full width, which is how the code takes attention."""
    build, width = view.build, seen.heads * seen.head_dim
    q, k = (
        build("Reshape", build("Transpose", v, perm=[1, 0, 2]), build.const([1, rows, width]))
        for v, rows in ((seen.q, seen.queries), (seen.k, seen.rows))
    )
    return Attending(q, k, k, width**-0.5, 1, width, seen.rows, seen.queries, False, seen.mask)
