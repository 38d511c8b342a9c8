"""Make the heads of a vision encoder narrower, by the closed form of NuWa (2504.03118).

    before: softmax(Q K' / sqrt(d)) V O    q, k, v [heads,L,32]
    after:  the same                       q, k [heads,L,16], v [heads,L,24]; scale as it was

Channels of every head are turned so that the first carry the most (turn_heads.py), and as few stay
as keep `energy`, in the mean over the heads of a block; queries and keys of a block have one width,
values another, rounded down to `multiple`. The axis analysis cuts what lies along them: matrices,
biases, reshapes. The scale of scores is written down, as it no longer follows from the width.
Heads, blocks and the residual stream stay. Energy is the squared norm of what a head's products
give: for inputs as calibration images make them, keys less what all of them have in common (ours:
28 dB where the other gives 18 at 0.7 of scenes-tiny's multiplications), or with by = "weights" for
inputs all alike, as the paper has it, without data. Refuses queries and keys that are rotated or
normalised behind their projection (with the reason: the turn does not pass through), and heads that
an ONNX file folds so that no axis is single; values are narrowed all the same. Where q, k and v are
columns of one matrix and cut by one reshape, they get one width. Expected effect: a tenth to a
fifth fewer multiplications of an encoder.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.columns import trace_heads
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.watch import watch
from edgevlm.passes.derive.factors import width_for
from edgevlm.passes.derive.turn_heads import Turned, turn_heads
from edgevlm.passes.derive.units import Moments

__all__ = ["NarrowHeads"]

ROLE: Role = "vision"
SCORES, VALUES = 0, 2  # inputs of Attention whose channels are cut


class NarrowHeadsOptions(PassOptions):
    energy: float = Field(
        0.99, gt=0, le=1, description="share of the products' squared norm that is kept; 1: all"
    )
    by: Literal["inputs", "weights"] = Field(
        "inputs", description="norm for inputs as they were seen, or for all alike"
    )
    multiple: int = Field(8, ge=1, le=64, description="of channels a head")


class NarrowHeads(Pass):
    name = "narrow-heads"
    summary = "fewer channels a head of a vision encoder, by their singular values"
    effect = Effect.APPROXIMATE
    paper = "2504.03118"
    after = ("fold-constants", "fuse-attention", "merge-duplicates")
    Options = NarrowHeadsOptions
    floor_db = 6.0  # what classes need of the function is for accuracy to say

    @property
    def calibrated(self) -> bool:
        return self.options.by == "inputs"

    def run(self, model: ExportedModel) -> PassResult:
        clone = model.parts[ROLE].clone()
        attentions = [node for node in clone.graph if node.op_type == "Attention"]
        moments = self._moments(clone, attentions) if self.calibrated else {}
        notes, narrowed = [], []
        for turned in turn_heads(clone, moments):
            name = f"{ROLE}/{turned.attention.name}"
            for what, found in (("scores", turned.scores), ("values", turned.values)):
                if isinstance(found, str):
                    notes.append(Note("skipped", name, f"{what}: {found}"))
            try:
                narrowed += self._narrow(model, clone, turned)
            except JobFault as fault:
                notes.append(Note("skipped", name, f"{fault.what}: {fault.why}"))
        cut = [(old, new) for old, new in narrowed if new < old]
        if not cut:
            return PassResult(model, False, tuple(notes))
        channels = sum(new for _, new in narrowed) / sum(old for old, _ in narrowed)
        why = f"{len(attentions)} attentions, {100 * channels:.0f} % of the channels of heads stay"
        notes.append(Note("matched", ROLE, why))
        return PassResult(model.with_parts(**{ROLE: clone}), True, tuple(notes))

    def _moments(self, part: ir.Model, attentions: list[ir.Node]) -> dict[ir.Value, np.ndarray]:
        """Of what projections of heads read, over all calibration images and tokens."""
        ways = [trace_heads(value) for node in attentions for value in node.inputs[:3]]
        read = {way.maker.inputs[0]: way.maker.inputs[0].shape[-1] for way in ways if way}
        sums = {value: Moments(int(width)) for value, width in read.items()}
        if sums:
            watch(part, list(sums), self.observed.fed(ROLE), lambda v, x, _: sums[v].see(x))
        return {value: total.h for value, total in sums.items()}

    def _narrow(
        self, model: ExportedModel, part: ir.Model, turned: Turned
    ) -> list[tuple[int, int]]:
        """(channels before, after) of queries and keys, and of values."""
        signature = model.contract.signature(ROLE)
        wanted = {
            place: width_for(list(found), self.options.energy, self.options.multiple)
            for place, found in ((SCORES, turned.scores), (VALUES, turned.values))
            if not isinstance(found, str)
        }
        axes = analyse(part.graph, signature)
        terms = [axes.of(turned.attention.inputs[place])[3] for place in (SCORES, VALUES)]
        if terms[0] == terms[1]:  # one reshape cuts q, k and v
            least = max(wanted.values(), default=0) if len(wanted) == 2 else None
            wanted = {} if least is None else {SCORES: least}
        found = []
        for place, width in wanted.items():
            value = turned.attention.inputs[place]
            old = int(value.shape[3])
            resize(axes, axes.of(value)[3], width, keep=np.arange(width))
            found.append((old, width))
        return found
