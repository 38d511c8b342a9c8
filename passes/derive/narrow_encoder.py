"""A narrower vision encoder, by closed forms and for what it will see (NuWa, 2504.03118).

    before: blocks of heads [5,L,32] and hidden units [L,640]
    after:  blocks of heads [5,L,16] and hidden units [L,264], all dense; 0.4 of the multiplications

Heads lose the channels that carry the least (narrow_heads.py), MLPs the units that the others can
stand in for (narrow_units.py), until the part takes (1 - alpha) of its multiplications, or `macs`.
How much of it heads give is told by their `energy`; 0 tries some on a quarter of the calibration
images, to which nothing is fitted then, and takes what strays least. A budget in ms becomes `macs`
and `energy` outside, by what `settle` says: a pass has no clock. Heads, blocks, tokens and the
residual stream stay, so every runtime and what comes after finds dense matrices of the same kind.

Without calibration data of its own (`--calib`) this is a model for whatever the probes show; with
images of some classes it is a model for those, and for nothing else: judge it by `edgevlm eval`.
Left as they are, with the reason: scores of heads whose queries and keys are rotated or normalised
behind their projection (a turn does not pass through that; their values are narrowed all the same),
heads that a file folds so that no axis is single, units that a norm sees as one vector. Expected
effect: fashion-vit at alpha 0.6 as good as the whole model with its head masked, at half of its
time (docs/derivation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.derive.narrow_heads import Cut
from edgevlm.passes.derive.narrow_units import TooWide, Units
from edgevlm.passes.derive.narrowing import Afford, Narrowing, images_of

__all__ = ["ROLE", "NarrowEncoder", "Settled"]

ROLE: Role = "vision"


@dataclass(frozen=True)
class Settled:
    """What the pass makes of a model: as options it needs no search, and no clock, to make it."""

    macs: int
    energy: float
    part: ir.Model  # its heads narrowed, its hidden units not

    @property
    def options(self) -> dict[str, object]:
        return {"macs": self.macs, "energy": self.energy}


class NarrowEncoderOptions(PassOptions):
    alpha: float = Field(0.5, ge=0, lt=1, description="share of its multiplications that goes")
    macs: int = Field(0, ge=0, description="multiplications that stay at most; 0: as alpha says")
    budget_ms: float = Field(
        0,
        ge=0,
        le=1e6,
        description="of the part on the target; compile turns it into macs; 0: none",
    )
    energy: float = Field(
        0, ge=0, le=1, description="share of heads' squared norm that stays; 0: the best of some"
    )
    by: Literal["inputs", "weights"] = Field(
        "inputs", description="heads' norm for inputs as they were seen, or for all alike"
    )
    order: Literal["loss", "sum"] = Field(
        "loss", description="units stay by the loss without them, or by their summed activations"
    )
    refit: bool = Field(True, description="fit the units that stay to what was there")
    multiple: int = Field(8, ge=1, le=256, description="of channels a head and of units a block")


class NarrowEncoder(Pass):
    name = "narrow-encoder"
    summary = "fewer channels a head and hidden units, by closed forms, to a budget"
    effect = Effect.STRUCTURAL
    paper = "2504.03118"
    after = ("fold-constants", "fuse-attention", "fuse-gelu", "merge-duplicates", "gather-early")
    Options = NarrowEncoderOptions
    calibrated = images_only = True
    since = ("purify-units",)

    def run(self, model: ExportedModel) -> PassResult:
        part, options = model.parts[ROLE], self.options
        if options.budget_ms:
            raise UsageFault(
                "EV202",
                f"{self.name} with budget_ms = {options.budget_ms:g}",
                "a pass has no clock: only a compile turns a time into multiplications",
                "edgevlm compile ... --latency-budget, or give macs",
            )
        whole, macs = self._budget(model)
        if count(part).macs <= macs and options.energy in (0, 1):
            why = f"it takes {count(part).macs} multiplications, under {macs}"
            return PassResult(model, False, (Note("skipped", ROLE, why),))
        try:
            found = self._narrowing(model)
            energy = options.energy or found.best(lambda _: macs)
            clone, heads, units, left = found.narrowed(lambda _: macs, energy)
        except TooWide as wide:
            raise _beyond(macs, whole, wide.least, options.multiple) from None
        notes = [Note("skipped", f"{ROLE}/{name}", why) for name, why in left.items()]
        have = count(clone).macs
        why = (
            f"{have / whole:.3f} of the multiplications: {_share(heads)} of the channels of heads "
            f"(energy {energy:g}), {_share(units)} of the hidden units"
        )
        notes.append(Note("matched", ROLE, why))
        return PassResult(model.with_parts(**{ROLE: clone}), True, tuple(notes))

    def settle(self, model: ExportedModel, afford: Afford) -> Settled:
        """What `run` would make under another budget than its options'. Raises TooWide."""
        found = self._narrowing(model)
        energy = self.options.energy or found.best(afford)
        part, _, _ = found.heads(energy)
        return Settled(afford(part), energy, part)

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        whole, macs = self._budget(before)
        have = count(after.parts[ROLE]).macs
        if have > macs:
            raise _beyond(macs, whole, have, self.options.multiple)

    def _narrowing(self, model: ExportedModel) -> Narrowing:
        o, seen = self.options, self.observed
        plain = model.contract.kind == "classifier"  # a VLM's answers are no classes of pictures
        labels = seen.truths if plain else [None] * len(seen.truths)
        return Narrowing(
            model.parts[ROLE],
            model.contract.signature(ROLE),
            images_of(seen.fed(ROLE), labels),
            Units(o.order, o.refit, o.multiple),
            o.by == "inputs",
            self.memo,
        )

    def _budget(self, model: ExportedModel) -> tuple[int, int]:
        """Multiplications of the whole part, units that were purified away included; what stays."""
        whole = count((self.original or model).parts[ROLE]).macs
        return whole, self.options.macs or int((1 - self.options.alpha) * whole)


def _share(cuts: Sequence[Cut]) -> str:
    before = sum(old for old, _ in cuts)
    return f"{100 * sum(new for _, new in cuts) / before:.0f} %" if before else "all"


def _beyond(macs: int, whole: int, least: int, multiple: int) -> UsageFault:
    return UsageFault(
        "EV250",
        f"a vision part of {macs / whole:.3f} of its multiplications",
        f"heads and hidden units in multiples of {multiple} leave {least / whole:.3f} at least",
        f"--alpha {int(100 * (1 - least / whole)) / 100:g}, or fewer image tokens first",
    )
