"""A short fine-tune of a narrowed encoder: it is taught to say what it said when it was whole.

    before: W' [d,264], fitted layer by layer       after: the same shapes, fitted end to end

narrow-encoder fits each layer to what was there; small errors of many layers add up, and nothing
has seen the sum. Here all weights of the narrowed part are trained together on the calibration
pictures against the outputs of the model in front of derivation, its classes cut: logits of a
classifier, image features of a VLM's tower. The loss is LIFT in groups (PLACE, distil.py), or the
mean squared error; labels are not used. Every fourth picture is held out: the look with the least
relative squared error there is kept, so that the part is never further from the base on them than
without training.

Needs the torch extra and gradients through the part (compiler/to_torch). Left alone, with the
reason: a recipe in which nothing was narrowed, parts that drop tokens (which ones they keep has no
gradient), too few pictures. Single numbers and tables that are not finite (masks) are constants of
the graph and not trained. Expected effect: with some hundred pictures a few dB towards the base
where narrowing was harsh, nothing where it was not; LIFT is about as good as the mean squared
error (docs/derivation.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.contract import Role
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.extras import torch_extra
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.to_torch import to_torch
from edgevlm.passes.derive.course import HELD, Course, every_look, held_out

if TYPE_CHECKING:
    from edgevlm.compiler.to_torch import TorchPart
    from edgevlm.passes.derive.distil import Taught

__all__ = ["RecoverEncoder"]

ROLE: Role = "vision"


class RecoverEncoderOptions(PassOptions):
    steps: int = Field(300, ge=1, le=1_000_000, description="of training")
    batch: int = Field(16, ge=1, le=4096, description="pictures a step")
    rate: float = Field(3e-4, gt=0, le=1, description="learning rate, falling as a cosine")
    loss: Literal["lift", "mse"] = Field("lift", description="LIFT in groups, or squared error")
    group: int = Field(16, ge=2, le=65536, description="numbers a group of LIFT")
    seed: int = Field(0, ge=0, description="of the order of pictures")


class RecoverEncoder(Pass):
    name = "recover-encoder"
    summary = "a short fine-tune of a narrowed encoder, taught by the whole one"
    effect = Effect.STRUCTURAL
    after = ("narrow-encoder", "purify-units")
    since = ("purify-units", "narrow-encoder")
    Options = RecoverEncoderOptions
    calibrated = images_only = True

    def requires(self, model: ExportedModel) -> None:
        alone = "leave --recover out: closed forms alone need no torch"
        with torch_extra("recover-encoder trains weights", alone):
            import torch  # noqa: F401  (told before anything takes time)

    def run(self, model: ExportedModel) -> PassResult:
        feeds = self.observed.fed(ROLE)
        if why := self._why_not(model, len(feeds)):
            return PassResult(model, False, (Note("skipped", ROLE, why),))
        pictures = np.concatenate([feed["pixel_values"] for feed in feeds])
        clone = model.parts[ROLE].clone()
        net = to_torch(clone)
        names = _trained(clone, net)
        found = self._teach(net, names, pictures)
        why = (
            f"{len(names)} tensors, {self.options.steps} steps of {self.options.loss}; on "
            f"{len(pictures) // HELD} pictures held out the relative squared error to the base "
            f"{found.before:.5f} -> {found.after:.5f} (step {found.step})"
        )
        if not found.step:
            why = f"training was no help: {why}"
            return PassResult(model, False, (Note("skipped", ROLE, why),))
        net.store(clone)
        made = model.with_parts(**{ROLE: clone})
        return PassResult(made, True, (Note("matched", ROLE, why),))

    def _why_not(self, model: ExportedModel, pictures: int) -> str:
        if self.original is None or self.original.parts[ROLE] is model.parts[ROLE]:
            return "nothing in front of it made the encoder smaller"
        if len(model.parts[ROLE].graph.outputs) != 1:
            return "it drops tokens, and which ones it keeps has no gradient"
        if pictures < HELD:
            return f"{pictures} pictures: {HELD} are the least, as one is held out"
        return ""

    def _teach(self, net: TorchPart, names: list[str], pictures: np.ndarray) -> Taught:
        import torch

        from edgevlm.passes.derive import distil
        from edgevlm.passes.derive.on_pictures import on_pictures

        o, held = self.options, held_out(len(pictures))
        seen, fit, check = torch.from_numpy(pictures), *map(np.flatnonzero, (~held, held))
        with torch.no_grad():
            wanted = on_pictures(to_torch(self.original.parts[ROLE]), seen, np.arange(len(seen)))

        def loss(some: np.ndarray) -> torch.Tensor:
            said = on_pictures(net, seen, fit[some])
            if o.loss == "mse":
                return distil.mse(wanted[fit[some]], said)
            return distil.place(wanted[fit[some]], said, o.group)

        course = Course(o.steps, o.batch, o.rate, o.seed, every_look(o.steps))
        return distil.teach(
            [net.parameter(name) for name in names],
            loss,
            lambda: distil.relative_error(wanted[check], on_pictures(net, seen, check)),
            len(fit),
            course,
        )


def _trained(part: ir.Model, net: TorchPart) -> list[str]:
    """Names of the initializers that are weights; one that several nodes share is there once."""
    return [name for name in net.trainable if _is_weight(part.graph.initializers[name])]


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor.size > 1 and bool(np.isfinite(tensor.numpy()).all())
