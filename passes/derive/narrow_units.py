"""Take hidden units out of a vision encoder's MLPs, and let the others do their work (2504.03118).

    before: x -> W_up [d,e] -> GELU -> hidden [...,e] -> W_down [e,d]
    after:  x -> W_up [d,r] -> GELU -> hidden [...,r] -> W_down' [r,d], bias'

All blocks are cut to one level (`units.levelled`), so that the part costs `macs`, or so that `keep`
of the units stay; the level is rounded down to `multiple`. Which units stay is told by what least
squares can not make up for (eliminate.py; order = "loss"), or, as NuWa has it, by the size of their
summed activations ("sum"); what is left then stands in for what is gone (`units.refit`). Both are
fitted to calibration images, all tokens: images of the classes that a device will see make a model
for those. Ours: the bias takes part in the fit. The axis analysis does the cutting, so gated
MLPs (SwiGLU) are cut as plain ones are. Left as they are, with the reason: units that a norm or a
softmax sees as one vector. Expected effect: at half the units of fashion-vit, 40 dB on images of
three classes where dropping them gives 25.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.watch import watch
from edgevlm.passes.derive.eliminate import eliminate
from edgevlm.passes.derive.mlps import Mlp, find_mlps
from edgevlm.passes.derive.units import Moments, Refit, levelled, refit

__all__ = ["NarrowUnits"]

ROLE: Role = "vision"
HELD_BYTES = 1 << 30  # of the moments of MLPs that are watched together


class NarrowUnitsOptions(PassOptions):
    macs: int = Field(
        0, ge=0, description="multiply-accumulates of the vision part, at most; 0: as keep says"
    )
    keep: float = Field(0.5, gt=0, le=1, description="share of all hidden units that stays")
    order: Literal["loss", "sum"] = Field(
        "loss", description="units stay by the loss without them, or by their summed activations"
    )
    refit: bool = Field(True, description="fit what stays to what was there")
    multiple: int = Field(8, ge=1, le=256, description="of units a block")


class NarrowUnits(Pass):
    name = "narrow-units"
    summary = "fewer hidden units in a vision encoder's MLPs, the others refitted"
    effect = Effect.STRUCTURAL
    paper = "2504.03118"
    after = ("fold-constants", "fuse-gelu", "merge-duplicates", "gather-early", "narrow-heads")
    Options = NarrowUnitsOptions
    calibrated = True

    def run(self, model: ExportedModel) -> PassResult:
        clone = model.parts[ROLE].clone()
        axes = analyse(clone.graph, model.contract.signature(ROLE))
        mlps = find_mlps(axes)
        before = [mlp.width for mlp in mlps]
        widths = self._widths(clone, mlps)
        build, notes = GraphBuilder(clone, "narrow"), []
        for i, keep, fitted in list(self._fits(clone, mlps, widths)):
            try:
                mlps[i].narrow(build, axes, keep, fitted)
            except JobFault as fault:
                notes.append(Note("skipped", f"{ROLE}/{mlps[i].down.name}", fault.why))
        left = [mlp.width for mlp in mlps]
        if left == before:
            return PassResult(model, False, tuple(notes))
        why = f"{sum(left)} of {sum(before)} hidden units of {len(mlps)} MLPs stay"
        notes.append(Note("matched", ROLE, why))
        return PassResult(model.with_parts(**{ROLE: clone}), True, tuple(notes))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        have, most = count(after.parts[ROLE]).macs, self.options.macs
        if most and have > most:
            raise _beyond(most, f"{have} are left, as some MLPs cannot be cut (see the notes)")

    def _widths(self, part: ir.Model, mlps: Sequence[Mlp]) -> list[int]:
        """Of what is left. Raises EV202 for a budget that hidden units alone do not reach."""
        options, widths = self.options, [mlp.width for mlp in mlps]
        if not options.macs:
            gone = (1 - options.keep) * sum(widths)
            return levelled(widths, [1] * len(mlps), gone, options.multiple)
        prices, over = [mlp.macs_a_unit for mlp in mlps], count(part).macs - options.macs
        found = levelled(widths, prices, over, options.multiple)
        saved = sum((w - f) * p for w, f, p in zip(widths, found, prices, strict=True))
        if saved < over:
            least = options.macs + over - saved
            raise _beyond(options.macs, f"with {options.multiple} units an MLP it takes {least}")
        return found

    def _fits(
        self, part: ir.Model, mlps: Sequence[Mlp], widths: Sequence[int]
    ) -> Iterator[tuple[int, np.ndarray, Refit]]:
        """(which MLP, units that stay, weights and bias of the product behind them)."""
        for group in _groups([i for i, mlp in enumerate(mlps) if widths[i] < mlp.width], mlps):
            sums = {mlps[i].hidden: Moments(mlps[i].width) for i in group}
            watch(part, list(sums), self.observed.fed(ROLE), lambda v, x, _, s=sums: s[v].see(x))
            for i in group:
                total, (weights, bias) = sums[mlps[i].hidden], mlps[i].weights()
                if self.options.order == "sum":
                    keep = total.largest(widths[i])
                else:
                    gram = total.h if bias is not None else total.h[:-1, :-1]
                    keep = eliminate(weights, gram).keep(widths[i])
                fitted = weights[:, keep], bias
                yield i, keep, refit(weights, bias, total, keep) if self.options.refit else fitted


def _groups(numbers: Sequence[int], mlps: Sequence[Mlp]) -> list[list[int]]:
    """As many MLPs together as their moments may take."""
    groups: list[list[int]] = [[]]
    held = 0
    for i in numbers:
        size = 8 * (mlps[i].width + 1) ** 2
        if groups[-1] and held + size > HELD_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(i)
        held += size
    return [group for group in groups if group]


def _beyond(macs: int, why: str) -> UsageFault:
    return UsageFault(
        "EV202",
        f"narrow-units to {macs} multiplications",
        why,
        "ask for more, or cut heads and tokens as well",
    )
