"""Give logits of some classes alone: those that a device will ever see (NuWa, 2504.03118).

    before: norm -> head [d,1000] -> logits [1,1000]
    after:  norm -> head [d,3]    -> logits [1,3], in the order of the model's classes

Columns of the head go, so that nothing is computed to be thrown away, and nothing is ever masked: a
class that is gone has no logit, where a mask of -1e9 would ruin the range of an int8 tensor. Where
the head cannot be cut (a table of prototypes, say), its logits are gathered. Of the classes that
stay every logit is as it was, so the likeliest of them is what `base + head mask` says: the
baseline that a class-specific model has to be held against (docs/derivation.md). Refuses what is no
classifier, one class, and names that the model does not have. Expected effect: more accuracy on
pictures of these classes (fashion-vit, shirts and the like: docs/derivation.md), hardly less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.class_names import chosen, names_of
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult

__all__ = ["KeepClasses"]

ROLE: Role = "vision"


class KeepClassesOptions(PassOptions):
    classes: tuple[str, ...] = Field(
        (), strict=False, max_length=100_000, description="names of the classes that stay; (): all"
    )


class KeepClasses(Pass):
    name = "keep-classes"
    summary = "logits of some classes alone"
    effect = Effect.STRUCTURAL
    paper = "2504.03118"
    after = ("fold-constants", "merge-duplicates")
    Options = KeepClassesOptions

    def requires(self, model: ExportedModel) -> None:
        if self.options.classes and model.contract.kind != "classifier":
            raise UsageFault(
                "EV250",
                f"classes of {model.source.name[:80]}",
                f"it is no classifier but a {'VLM' if model.contract.kind == 'vlm' else 'map'}",
                "--domain FOLDER  derives the vision tower of a VLM for what it will see"
                if model.contract.kind == "vlm"
                else "leave the classes out",
            )

    def run(self, model: ExportedModel) -> PassResult:
        names = names_of(model)
        if not self.options.classes:
            return PassResult(model, False)
        keep = np.array(chosen(names, self.options.classes, all_allowed=False))
        clone = model.parts[ROLE].clone()
        how = _cut(clone, model, keep)
        contract = model.contract.model_copy(update={"vocabulary": len(keep)})
        processor = model.processor.model_copy(
            update={"class_names": tuple(names[i] for i in keep)}
        )
        note = Note("matched", f"{ROLE}/logits", f"{len(keep)} of {len(names)} classes, {how}")
        made = replace(model.with_parts(contract, **{ROLE: clone}), processor=processor)
        return PassResult(made, True, (note,))


def _cut(part: ir.Model, model: ExportedModel, keep: Sequence[int]) -> str:
    logits = part.graph.outputs[0]
    try:
        axes = analyse(part.graph, model.contract.signature(ROLE))
        resize(axes, axes.of(logits)[-1], len(keep), keep=keep)
        return "columns of the head"
    except JobFault as fault:
        build = GraphBuilder(part, "classes")
        some = build("Gather", logits, build.const(keep), axis=-1)
        some.name, logits.name = logits.name, f"{logits.name}_of_all"
        part.graph.outputs[0] = some
        build.finish()
        return f"gathered behind the head, which stays whole ({fault.why})"
