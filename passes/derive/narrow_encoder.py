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
effect: fashion-vit at alpha 0.6 within a point of the whole model's accuracy (docs/derivation.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import count
from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import Feeds, open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.derive.narrow_heads import Cut, head_moments, narrow_heads
from edgevlm.passes.derive.narrow_units import Looked, TooWide, Units, narrow_units

__all__ = ["ROLE", "Afford", "NarrowEncoder", "Settled"]

ROLE: Role = "vision"
#: tried where none is given; 1 leaves heads whole
ENERGIES = (1.0, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.95)
TRIED = 96  # images at most, to fit to while energies are tried
SEVERAL = 4  # images: every fourth is held out then

#: multiplications that a part may take whose heads are narrowed already
Afford = Callable[[ir.Model], int]


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
    calibrated = True
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
        feeds, moments = self._seen(part)
        try:
            energy = options.energy or self._best(model, moments, feeds, lambda _: macs)
            clone, heads, units, left = self._narrowed(
                model, moments, feeds, lambda _: macs, energy, "all"
            )
        except TooWide as found:
            raise _beyond(macs, whole, found.least, options.multiple) from None
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
        feeds, moments = self._seen(model.parts[ROLE])
        energy = self.options.energy or self._best(model, moments, feeds, afford)
        part, _, _ = self._heads(model, moments, energy)
        return Settled(afford(part), energy, part)

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        whole, macs = self._budget(before)
        have = count(after.parts[ROLE]).macs
        if have > macs:
            raise _beyond(macs, whole, have, self.options.multiple)

    def _budget(self, model: ExportedModel) -> tuple[int, int]:
        """Multiplications of the whole part, units that were purified away included; what stays."""
        whole = count((self.original or model).parts[ROLE]).macs
        return whole, self.options.macs or int((1 - self.options.alpha) * whole)

    def _seen(self, part: ir.Model) -> tuple[Sequence[Feeds], dict[str, np.ndarray]]:
        """What the part is fed, and moments of what its heads read."""
        feeds, by = self.observed.fed(ROLE), self.options.by
        moments = self.memo.kept(
            f"moments {by}", lambda: head_moments(part, feeds) if by == "inputs" else {}
        )
        return feeds, moments

    def _heads(
        self, model: ExportedModel, moments: dict[str, np.ndarray], energy: float
    ) -> tuple[ir.Model, list[Cut], dict[str, str]]:
        """A clone with narrower heads, their widths, and why some stay."""
        clone, signature = model.parts[ROLE].clone(), model.contract.signature(ROLE)
        if energy == 1:
            return clone, [], {}
        return clone, *narrow_heads(clone, signature, moments, energy, self.options.multiple)

    def _narrowed(
        self,
        model: ExportedModel,
        moments: dict[str, np.ndarray],
        feeds: Sequence[Feeds],
        afford: Afford,
        energy: float,
        which: str,  # of the feeds
    ) -> tuple[ir.Model, list[Cut], list[Cut], dict[str, str]]:
        options, signature = self.options, model.contract.signature(ROLE)
        made, heads, why = self.memo.kept(
            f"heads {options.by} {energy} {options.multiple}",
            lambda: self._heads(model, moments, energy),
            lambda found: _bytes(found[0]),
        )
        clone = made.clone()
        how = Units(options.order, options.refit, options.multiple)
        looked = Looked(self.memo, f"{which} {options.by} {energy} {options.multiple}")
        units, more = narrow_units(clone, signature, feeds, afford(clone), how, looked)
        return clone, heads, units, why | more

    def _best(
        self,
        model: ExportedModel,
        moments: dict[str, np.ndarray],
        feeds: Sequence[Feeds],
        afford: Afford,
    ) -> float:
        """The energy that strays least on held-out images, walking down until it gets worse.

        Raises TooWide where none is afforded.
        """
        held = feeds[::SEVERAL]
        fit = [feed for i, feed in enumerate(feeds) if i % SEVERAL] or feeds
        held, fit = (some[:: -(-len(some) // TRIED)] for some in (held, fit))
        wanted = self.memo.kept("wanted", lambda: _outputs(model.parts[ROLE], held))
        best, found = -np.inf, 0.0
        for energy in ENERGIES:
            try:
                clone = self._narrowed(model, moments, fit, afford, energy, "tried")[0]
            except TooWide:
                if not found and energy == ENERGIES[-1]:
                    raise
                continue
            db = measure(wanted, _outputs(clone, held), "").sqnr_db
            if db < best:
                break
            best, found = db, energy
        return found


def _outputs(part: ir.Model, feeds: Sequence[Feeds]) -> np.ndarray:
    session = open_session(part)
    return np.stack([session.run(None, dict(feed))[0] for feed in feeds])


def _bytes(part: ir.Model) -> int:
    """Of its weights, those included that it shares with others."""
    return sum(v.const_value.nbytes for v in part.graph.initializers.values() if v.const_value)


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
