"""Merging rows of one attention head by head and block by block (block_plan.py), and undoing it.

    x [1,H,L,d]     rows of q or k
    match           each source finds the target it points most like, in its own head and block
    merge           the r most alike sources of a block go into their target's mean
    outliers        the O merged sources of a head furthest from their mean leave it again
    rows            [means | rows that stand alone], [1,H,L',d]
    slots           int64 [H,L]: which of the L' rows stands for each of the L

Products are [H,B,D,n] with blocks of n rows, never L x L. Whatever the numbers are, the rows that
stand alone are so many and all different, so that the counts are exact. Ties: the lower row stands
alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.tokens.forms import Form
from edgevlm.passes.tokens.keys import keys
from edgevlm.passes.tokens.pieces.bipartite import match
from edgevlm.passes.tokens.pieces.block_plan import BlockPlan

__all__ = ["HeadwiseMerge"]

SHORTEST = 1e-12  # of a row, for what divides by its length


class HeadwiseMerge:
    """One matching, by the rows of x [1,H,L,d]; `rows` merges these, and others, as it says.

    weights: float32 [L], how many tokens each row stands for already; None: one each.
    """

    def __init__(
        self,
        build: GraphBuilder,
        form: Form,
        plan: BlockPlan,
        x: ir.Value,
        weights: ir.Value | None = None,
    ) -> None:
        self.build, self.form, self.plan, self.heads = build, form, plan, int(x.shape[1])
        self.weights = weights
        self.targets, self.sources = plan.places()
        block = self._blocks(x)
        sides = (self.sources, self.targets)
        here, there = (build("Gather", block, build.const(side), axis=2) for side in sides)
        unit = build("Div", there, self._length(there, keepdims=1))
        likeness, self.to = match(build, here, unit, rank=4)  # both [H,B,S]
        fixed = build.const(np.tile(plan.fixed, (self.heads, 1)))
        pieces, alone = [fixed] if len(plan.fixed) else [], None
        if plan.alone:
            alone = self._least_alike(build("Div", likeness, self._length(here, keepdims=0)))
            pieces.append(self._rows_of(alone))
        self._decide(pieces, returned=False)
        if plan.back:
            pieces.append(self._outliers(here, block, alone))
            self._decide(pieces, returned=True)

    # -- what others read ------------------------------------------------------------------------
    def rows(self, x: ir.Value) -> ir.Value:
        """[1,H,L',d] of x [1,H,L,d]."""
        build, plan, width = self.build, self.plan, int(x.shape[-1])
        means = build("MatMul", self.share, self._blocks(x))
        means = build("Reshape", means, build.const([1, self.heads, plan.means, width]))
        if self.lone is None:
            return means
        flat = build("Reshape", x, build.const([self.heads * plan.rows, width]))
        start = build.const(np.arange(self.heads)[:, None] * plan.rows)
        lone = build("Gather", flat, build("Add", self.lone, start))
        return build("Concat", means, build("Unsqueeze", lone, build.const([0])), axis=2)

    def sizes(self) -> ir.Value:
        """float32 [H,L']: how many tokens each row stands for."""
        build, plan = self.build, self.plan
        sizes = build("Reshape", self.total, build.const([self.heads, plan.means]))
        if self.lone is None:
            return sizes
        if self.weights is None:
            lone = build.const(np.ones((self.heads, plan.left - plan.means)), np.float32)
        else:
            lone = build("Gather", self.weights, self.lone)
        return build("Concat", sizes, lone, axis=1)

    def unmerged(self, y: ir.Value, width: int) -> ir.Value:
        """[1,H,L,width] of what became of the merged rows, y [1,H,L',width]: copies by slot."""
        build, plan = self.build, self.plan
        flat = build("Reshape", y, build.const([self.heads * plan.left, width]))
        start = build.const(np.arange(self.heads)[:, None] * plan.left)
        whole = build("Gather", flat, build("Add", self.slots, start))
        return build("Unsqueeze", whole, build.const([0]))

    # -- deciding --------------------------------------------------------------------------------
    def _least_alike(self, alike: ir.Value) -> ir.Value:
        """int64 [H,B,S - r]: places among the sources of those that do not merge."""
        count, k = self.plan.sources, self.build.const([self.plan.alone])
        order = keys(self.build, self.form, self.build("Neg", alike), count)
        return self.build("TopK", order, k, outputs=2, axis=-1)[1]

    def _outliers(self, here: ir.Value, block: ir.Value, alone: ir.Value | None) -> ir.Value:
        """int64 [H,O]: of each head the rows furthest from the mean they are in."""
        build, plan, heads = self.build, self.plan, self.heads
        width, count = int(block.shape[-1]), plan.blocks * plan.sources
        means = build("MatMul", self.share, block)
        flat = build("Reshape", means, build.const([heads * plan.means, width]))
        starts = np.arange(heads * plan.blocks).reshape(heads, plan.blocks, 1) * plan.targets
        mean = build("Gather", flat, build("Add", self.to, build.const(starts)))
        gap = build("ReduceL2", build("Sub", here, mean), build.const([-1]), keepdims=0)
        gap, taken = build("Reshape", gap, build.const([heads, count])), None
        if alone is not None:
            blank = build.const(np.zeros((heads, plan.blocks, plan.sources)), np.float32)
            ones = build.const(np.ones((heads, plan.blocks, plan.alone)), np.float32)
            taken = build("ScatterElements", blank, alone, ones, axis=2)
            taken = build("Reshape", taken, build.const([heads, count]))
        order = keys(build, self.form, gap, count, taken)
        out = build("TopK", order, build.const([plan.back]), outputs=2, axis=-1)[1]
        rows = plan.inner[:, self.sources].reshape(-1)
        return build("Gather", build.const(rows), out)

    def _decide(self, lone: list[ir.Value], returned: bool) -> None:
        """From the rows that stand alone: slots, and each row's share of a mean [H,B,D,n]."""
        build, plan, heads = self.build, self.plan, self.heads
        own = build.const(np.tile(np.arange(plan.targets), (heads, plan.blocks, 1)))
        order = build.const(np.argsort(np.concatenate([self.targets, self.sources])))
        place = build("Gather", build("Concat", own, self.to, axis=2), order, axis=2)  # [H,B,n]
        starts = build.const(np.arange(plan.blocks)[:, None] * plan.targets)
        shape = build.const([heads, plan.blocks * plan.size])
        merged = build("Reshape", build("Add", place, starts), shape)
        blank = build.const(np.zeros((heads, plan.rows)))
        rows = np.tile(plan.inner.reshape(-1), (heads, 1))
        slots = build("ScatterElements", blank, build.const(rows), merged, axis=1)
        self.lone = None
        if lone:
            self.lone = build("Concat", *lone, axis=1)
            count = len(plan.fixed) + plan.blocks * plan.alone + plan.back * returned
            behind = np.tile(plan.means + np.arange(count), (heads, 1))
            slots = build("ScatterElements", slots, self.lone, build.const(behind), axis=1)
            inner = build("Gather", slots, build.const(plan.inner), axis=1)
            place = build("Sub", inner, starts)  # D or more: stands alone
        self.slots = slots
        depth, values = build.const([plan.targets]), build.const([0, 1], np.float32)
        member = build("OneHot", place, depth, values, axis=2)
        if self.weights is not None:
            rows = build.const(plan.inner[:, None])
            member = build("Mul", member, build("Gather", self.weights, rows))
        self.total = build("ReduceSum", member, build.const([3]), keepdims=1)
        self.share = build("Div", member, self.total)

    # -- rows ------------------------------------------------------------------------------------
    def _blocks(self, x: ir.Value) -> ir.Value:
        """[H,B,n,d]; gathered, because a block may begin in the midst of a row of the picture."""
        build, plan, shape = self.build, self.plan, [self.heads, *self.plan.inner.shape]
        inner = build("Gather", x, build.const(plan.inner), axis=2)
        made = build("Reshape", inner, build.const([*shape, int(x.shape[-1])]))
        made.shape, made.dtype = ir.Shape([*shape, int(x.shape[-1])]), x.dtype
        return made

    def _rows_of(self, sources: ir.Value) -> ir.Value:
        """int64 [H,B x k]: rows of sources [H,B,k]."""
        places = self.build("Gather", self.build.const(self.sources), sources)
        rows = self.build("Add", places, self.build.const(self.plan.inner[:, :1]))
        return self.build("Reshape", rows, self.build.const([self.heads, -1]))

    def _length(self, rows: ir.Value, keepdims: int) -> ir.Value:
        length = self.build("ReduceL2", rows, self.build.const([-1]), keepdims=keepdims)
        return self.build("Max", length, self.build.const(SHORTEST, np.float32))
