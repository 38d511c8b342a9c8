"""Taps on a residual stream of blocks: what the vision encoder and the decoder have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.blocks import Block
from edgevlm.passes.tokens.view import Attending, View

__all__ = ["StreamView", "positive"]

#: a logit that softmax turns into nothing
HIDDEN = -1e30


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
        if back == 0:
            node = self._next.attention
            found = {p: self._copy(node.inputs[p]) for p in range(3)}
        else:
            node = self._block(back).attention
            found = {p: node.inputs[p] for p in range(3)}
        return self._attending(node, [found[p] for p in range(3)])

    def projected(self, back: int = 0) -> Attending:
        """The same in front of the rotary embedding: positions play no part in q and k."""
        node = (self._next if back == 0 else self._block(back)).attention
        values = []
        for value in node.inputs[:3]:
            made = value.producer()
            rotary = made is not None and made.op_type == "RotaryEmbedding"
            values.append(made.inputs[0] if rotary else value)
        if back == 0:
            values = [self._copy(value) for value in values]
        return self._attending(node, values)

    def paid(self, seen: Attending, queries: ir.Value | list[int]) -> ir.Value:
        """[heads,Q,N] what the rows `queries` (int64 [Q]) pay the image tokens, after softmax.

        Computed beside the fused node from Q rows alone, never L x L; causal where the node is.
        """
        build = self.build
        index = build.const(queries) if isinstance(queries, list) else queries
        if seen.queries != seen.rows:
            raise self.missing("queries of many rows", "the last layer computes one row only")
        q = build("Gather", seen.q, index, axis=1)
        logits = build("MatMul", q, build("Transpose", seen.k, perm=[0, 2, 1]))
        logits = build("Mul", logits, self.const(seen.scale))
        if seen.causal:
            row = build("Unsqueeze", index, build.const([1]))
            ahead = build("Greater", build.const(np.arange(seen.rows)), row)  # [Q,L]
            logits = build("Where", ahead, self.const(HIDDEN), logits)
        return self.image_rows(build("Softmax", logits, axis=-1), axis=2)

    def modules(self, back: int = 1) -> list[tuple[ir.Value, ir.Value]]:
        block = self._block(back)
        pairs = [(block.normed, block.attended), (block.mlp_normed, block.mlp_out)]
        if any(value is None for pair in pairs for value in pair):
            raise self.missing("attention and MLP modules", "this block has one sum, not two")
        return [tuple(self.image_rows(self.flat(value)) for value in pair) for pair in pairs]

    # -- inside ----------------------------------------------------------------------------------
    @property
    def _next(self) -> Block:
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
        block = self.blocks[at]
        if int(block.entry.shape[1]) != self.rows:
            raise self.missing(
                f"the rows of {back} blocks earlier",
                "another site in between has dropped some; put the sites further apart",
            )
        return block

    def _attending(self, node: ir.Node, values: list[ir.Value]) -> Attending:
        """[1,heads,L,d], or [1,L,heads*d] with head counts as attributes -> [heads,L,d]."""
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
        return Attending(q, k, v, float(scale), heads, width, rows, queries, causal)

    def _by_head(self, value: ir.Value, heads: int) -> ir.Value:
        shape = [int(d) for d in value.shape]
        if len(shape) == 4:
            return self.build("Reshape", value, self.build.const(shape[1:]))
        split = self.build("Reshape", value, self.build.const([shape[1], heads, shape[2] // heads]))
        return self.build("Transpose", split, perm=[1, 0, 2])

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
