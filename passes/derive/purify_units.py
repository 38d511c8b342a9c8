"""Take out the hidden units that do not help to tell the pictures apart (NuWa's purification).

    before: hidden [L,640] -> W_down
    after:  hidden [L,497] -> W_down without the columns of the others; no mask is left

A general model has units that speak for classes that are not there; for a few classes they are of
no use, or harm. A mask over the units of every MLP is trained through the frozen part on labelled
calibration pictures (masks.py), looked at on a quarter of them that are held out, and the best look
is kept: never a worse one than no mask at all. Heads are not masked, as that costs accuracy
(2504.03118, ablation). What an honest measurement says it brings: as accurate a model with a tenth
to a quarter fewer units, no more (docs/derivation.md); narrow-encoder gets further by itself, and
so this pass runs where it is asked for.

Needs the torch extra and gradients through the part (compiler/to_torch), and pictures with classes;
for a VLM's domain it is how its answers begin that counts (`by = "lm"`, answering.py). Without
either the output of the part is matched (`by = "features"`), which nothing does better than the
part as it is: only units that make no difference go. Refuses pictures without what it is trained
by; skips parts that drop tokens. Expected effect: fashion-vit, 3 classes, 600 steps in a minute: a
sixth of the hidden units go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.class_names import names_of
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.extras import torch_extra
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.to_torch import to_torch
from edgevlm.passes.derive.course import every_look, held_out
from edgevlm.passes.derive.mlps import find_mlps

if TYPE_CHECKING:
    from edgevlm.passes.derive.answering import Answering
    from edgevlm.passes.derive.through import Objective

__all__ = ["PurifyUnits"]

ROLE: Role = "vision"


class PurifyUnitsOptions(PassOptions):
    steps: int = Field(600, ge=1, le=1_000_000, description="of training")
    batch: int = Field(16, ge=1, le=4096, description="pictures a step")
    decay: float = Field(0.05, ge=0, le=1, description="weight decay: the more, the fewer units")
    rate: float = Field(1e-3, gt=0, le=1, description="learning rate of the units' scores")
    beta_rate: float = Field(0.1, gt=0, le=1, description="learning rate of how many stay")
    seed: int = Field(0, ge=0, description="of the order of pictures")
    by: Literal["classes", "features", "lm"] = Field(
        "classes",
        description="what is kept: classes told apart, the output as it was, or answers of a VLM",
    )


class PurifyUnits(Pass):
    name = "purify-units"
    summary = "hidden units that do not help with these pictures go, by trained masks"
    effect = Effect.STRUCTURAL
    paper = "2504.03118"
    after = ("fold-constants", "fuse-gelu", "merge-duplicates", "gather-early")
    Options = PurifyUnitsOptions
    calibrated = True

    @property
    def images_only(self) -> bool:
        return self.options.by != "lm"

    def requires(self, model: ExportedModel) -> None:
        alone = "leave --purify out: closed forms alone need no torch"
        with torch_extra("purify-units trains masks", alone):
            import torch  # noqa: F401  (told before anything takes time)

    def run(self, model: ExportedModel) -> PassResult:
        from edgevlm.passes.derive.masks import Plan, train_masks

        if self.options.by == "lm":
            self._check_answers(model)
        if self._drops_tokens(model):
            why = "it drops tokens, and which ones it keeps has no gradient"
            return PassResult(model, False, (Note("skipped", ROLE, why),))
        clone, o = model.parts[ROLE].clone(), self.options
        axes = analyse(clone.graph, model.contract.signature(ROLE))
        mlps = find_mlps(axes)
        held = held_out(len(self.observed.fed(ROLE)))
        names = [str(mlp.hidden.name) for mlp in mlps]
        fit, check = self._objectives(model, clone, names, held)
        plan = Plan(
            steps=o.steps,
            batch=o.batch,
            rate=o.rate,
            seed=o.seed,
            every=every_look(o.steps),
            beta_rate=o.beta_rate,
            decay=o.decay,
        )
        widths = [mlp.width for mlp in mlps]
        found = train_masks(widths, fit.loss, check.whole, len(fit.pictures), plan)
        left = sum(map(len, found.kept))
        why = (
            f"{left} of {sum(widths)} hidden units stay; on {int(held.sum())} pictures held out "
            f"{check.what} {found.before:.4f} -> {found.after:.4f} (step {found.step} of {o.steps})"
        )
        if left == sum(widths):
            return PassResult(model, False, (Note("skipped", ROLE, why),))
        for mlp, keep in zip(mlps, found.kept, strict=True):
            if len(keep) < mlp.width:
                resize(axes, axes.of(mlp.hidden)[-1], len(keep), keep=keep)
        made = model.with_parts(**{ROLE: clone})
        return PassResult(made, True, (Note("matched", ROLE, why),))

    def _drops_tokens(self, model: ExportedModel) -> bool:
        c = model.contract
        roles = (ROLE, "connector") if self.options.by == "lm" else (ROLE,)
        dropped = any(len(model.parts[role].graph.outputs) != 1 for role in roles)
        return dropped or bool(self.options.by == "lm" and c.sites)

    def _objectives(
        self, model: ExportedModel, clone: ir.Model, names: list[str], held: np.ndarray
    ) -> list[Objective | Answering]:
        """Of the pictures that are trained on, and of those held out."""
        from edgevlm.passes.derive.answering import Answering
        from edgevlm.passes.derive.through import Objective

        sides, by = [np.flatnonzero(~held), np.flatnonzero(held)], self.options.by
        if by == "lm":
            net = to_torch(clone)
            return [Answering(net, names, model.parts, self.observed, some) for some in sides]
        truth = self._truth(model) if by == "classes" else None
        net = to_torch(clone)
        pictures = np.concatenate([feed["pixel_values"] for feed in self.observed.fed(ROLE)])
        return [
            Objective(net, names, pictures[some], None if truth is None else truth[some])
            for some in sides
        ]

    def _check_answers(self, model: ExportedModel) -> None:
        """Raises EV250 for rows of which nobody knows how the answer begins."""
        unknown = sum(not said for said in self.observed.said)
        if model.contract.kind != "vlm" or unknown:
            raise UsageFault(
                "EV250",
                f"purify-units by answers, {unknown} of {len(self.observed.said)} rows",
                "their answer is not known, or no token of its own begins it"
                if model.contract.kind == "vlm"
                else "the model answers no questions",
                '--domain FOLDER with rows.jsonl, or by = "features" in a recipe',
            )

    def _truth(self, model: ExportedModel) -> np.ndarray:
        """int [n]. Raises EV250 for pictures of which nobody knows the class."""
        names = names_of(model) if model.contract.kind == "classifier" else ()
        unknown = sum(truth not in names for truth in self.observed.truths)
        if unknown:
            raise UsageFault(
                "EV250",
                f"purify-units by classes, {unknown} of {len(self.observed.truths)} pictures",
                "their class is not known, or none of the model's",
                '--calib FOLDER with FOLDER/<class>/*.png, or by = "features" in a recipe',
            )
        return np.array([names.index(truth) for truth in self.observed.truths])
