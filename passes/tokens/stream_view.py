"""Taps on a residual stream of blocks: what the vision encoder and the decoder have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.blocks import Block
from edgevlm.passes.tokens.projections import unrotated
from edgevlm.passes.tokens.view import Attending, View

__all__ = ["HIDDEN", "StreamView", "positive"]

#: a logit that softmax turns into nothing
HIDDEN = -1e30
MASK = 3  # input of Attention


@dataclass
class StreamView(View):
    """A site between blocks. `stream` [1,L,D] holds all rows, the image's and the others."""

    stream: ir.Value = None
    blocks: list[Block] = field(default_factory=list)
    depth: int = 0  # blocks in front of the site

    @property
    def rows(self) -> int:
        """L at the site."""
        return int(self.stream.shape[1])

    @property
    def reach(self) -> int:
        """Blocks in front of the site that a tap may look back over: no site in between."""
        back = 0
        while back < self.depth and self._has_our_rows(self.blocks[self.depth - back - 1]):
            back += 1
        return back

    @abstractmethod
    def image_rows(self, value: ir.Value, axis: int = 0) -> ir.Value: ...

    def hidden(self, back: int = 0) -> ir.Value:
        """[N,D] of the stream `back` blocks earlier; only since the last site before this one."""
        value = self.stream if back == 0 else self._block(back).entry
        return self.image_rows(self.flat(value))

    def flat(self, value: ir.Value) -> ir.Value:
        """[1,L,...] -> [L,...]."""
        shape = [int(d) for d in value.shape][1:]
        return self.build("Reshape", value, self.build.const(shape))

    def attention(self, back: int = 1) -> Attending:
        """The attention `back` blocks in front of the site; 0: of the next, on all L rows."""
        node = self._at(back).attention
        copy = self._copy if back == 0 else lambda value: value
        return self._attending(node, [copy(node.inputs[p]) for p in range(3)])

    def projected(self, back: int = 0) -> Attending:
        """The same in front of the rotary embedding: positions play no part in q and k."""
        block = self._at(back)
        copy = self._copy if back == 0 else lambda value: value
        values = [copy(block.attention.inputs[p]) for p in range(3)]
        for p in range(2):
            values[p] = unrotated(self.build, values[p], copy(block.normed))
            if values[p] is None:
                raise self.missing(
                    "q and k without positions",
                    "here they are rotated by nodes other than RotaryEmbedding, and a product of "
                    "rotated q and k says how far apart tokens are as well",
                )
        return self._attending(block.attention, values)

    def paid(self, seen: Attending, queries: ir.Value | list[int]) -> ir.Value:
        """[heads,Q,N] what the rows `queries` (int64 [Q]) pay the image tokens, after softmax.

        Computed beside the fused node from Q rows alone, never L x L; causal where the node is.
        """
        index = self.build.const(queries) if isinstance(queries, list) else queries
        if seen.queries != seen.rows:
            raise self.missing("queries of many rows", "the last layer computes one row only")
        return self.paid_by(self.build("Gather", seen.q, index, axis=1), index, seen)

    def paid_by(self, q: ir.Value, index: ir.Value, seen: Attending) -> ir.Value:
        """`paid` where the queries [heads,Q,head_dim] of the rows `index` are at hand already."""
        share = self.build("Softmax", self.logits(q, index, seen), axis=-1)
        return self.image_rows(share, axis=2)

    def logits(self, q: ir.Value, index: ir.Value, seen: Attending) -> ir.Value:
        """[heads,Q,L] scaled, masked and causal: what softmax is taken of."""
        build = self.build
        logits = build("MatMul", q, build("Transpose", seen.k, perm=[0, 2, 1]))
        logits = build("Mul", logits, self.const(seen.scale))
        if seen.mask is not None:
            logits = self._masked(seen.mask, logits, index)
        if seen.causal:
            row = build("Unsqueeze", index, build.const([1]))
            ahead = build("Greater", build.const(np.arange(seen.rows)), row)  # [Q,L]
            logits = build("Where", ahead, self.const(HIDDEN), logits)
        return logits

    def modules(self, back: int = 1) -> list[tuple[ir.Value, ir.Value]]:
        return [tuple(self.image_rows(value) for value in pair) for pair in self.module_rows(back)]

    def module_rows(self, back: int = 1) -> list[tuple[ir.Value, ir.Value]]:
        """`modules` of all L rows, each [L,D]."""
        block = self._block(back)
        pairs = [(block.normed, block.attended), (block.mlp_normed, block.mlp_out)]
        if any(value is None for pair in pairs for value in pair):
            raise self.missing("attention and MLP modules", "this block has one sum, not two")
        if any(int(value.shape[1]) != self.rows for pair in pairs for value in pair):
            raise self.missing("all rows of two modules", "that block computes one row only")
        return [tuple(self.flat(value) for value in pair) for pair in pairs]

    # -- inside ----------------------------------------------------------------------------------
    def _at(self, back: int) -> Block:
        """The block `back` blocks in front of the site; 0: the next."""
        if back:
            return self._block(back)
        if self.depth >= len(self.blocks):
            raise self.missing("the next block", "this site is behind the last")
        return self.blocks[self.depth]

    def _block(self, back: int) -> Block:
        at = self.depth - back
        if at < 0:
            raise self.missing(
                f"what lies {back} block{'s' * (back > 1)} earlier",
                f"only {self.depth} came before; {self.site.kind}:{back} is the first site with it",
            )
        if not self._has_our_rows(self.blocks[at]):
            raise self.missing(
                f"the rows of {back} blocks earlier",
                "another site in between has dropped some; put the sites further apart",
            )
        return self.blocks[at]

    def _has_our_rows(self, block: Block) -> bool:
        return int(block.entry.shape[1]) == self.rows

    def _attending(self, node: ir.Node, values: list[ir.Value]) -> Attending:
        """[1,heads,L,d], or [1,L,heads*d] with head counts as attributes -> [heads,L,d]."""
        if node.attributes.get_float("softcap", 0.0):
            raise self.missing("attention by softmax alone", "here its logits are capped")
        heads = node.attributes.get_int("q_num_heads", 0) or int(values[0].shape[1])
        shared = node.attributes.get_int("kv_num_heads", 0) or int(values[1].shape[1])
        q, k, v = (
            self._by_head(value, n)
            for value, n in zip(values, (heads, shared, shared), strict=True)
        )
        if shared != heads:
            index = self.build.const(np.repeat(np.arange(shared), heads // shared))
            k, v = (self.build("Gather", value, index, axis=0) for value in (k, v))
        width, rows = int(values[0].shape[-1]), int(values[1].shape[-2])
        width = width // heads if len(values[0].shape) == 3 else width
        scale = node.attributes.get_float("scale", 0.0) or width**-0.5
        causal = bool(node.attributes.get_int("is_causal", 0))
        queries = int(values[0].shape[-2])
        mask = node.inputs[MASK] if len(node.inputs) > MASK else None
        return Attending(q, k, v, float(scale), heads, width, rows, queries, causal, mask)

    def _by_head(self, value: ir.Value, heads: int) -> ir.Value:
        shape = [int(d) for d in value.shape]
        if len(shape) == 4:
            return self.build("Reshape", value, self.build.const(shape[1:]))
        split = self.build("Reshape", value, self.build.const([shape[1], heads, shape[2] // heads]))
        return self.build("Transpose", split, perm=[1, 0, 2])

    def _masked(self, mask: ir.Value, logits: ir.Value, index: ir.Value) -> ir.Value:
        """The node's own mask, on the rows of the queries: what to add, or (bool) what is seen."""
        build, rank = self.build, len(mask.shape)
        seen = mask.dtype == ir.DataType.BOOL
        if int(mask.shape[-2]) > 1:
            mask = build("Gather", mask, index, axis=rank - 2)
        if rank == 4:
            mask = build("Squeeze", mask, build.const([0]))
        if seen:
            return build("Where", mask, logits, self.const(HIDDEN))
        return build("Max", build("Add", logits, mask), self.const(HIDDEN))

    @cached_property
    def _fresh(self) -> ir.Value:
        """The stream under another name, so that what is built on it is ours."""
        return self.build("Identity", self.stream)

    @cached_property
    def _copies(self) -> dict[ir.Value, ir.Value]:
        return {self.stream: self._fresh}

    def _copy(self, value: ir.Value) -> ir.Value:
        """The value again, on nodes of our own: the site will shorten the ones there are."""
        return self.build.copy(value, self._copies)


def positive(view: View, value: ir.Value, floor: float = 1e-12) -> ir.Value:
    """Kept off zero, for what divides."""
    return view.build("Max", value, view.const(floor))
