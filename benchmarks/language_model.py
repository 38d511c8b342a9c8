"""SmolLM2-135M alone, out of the LLaVA-shaped model: embeddings in, logits of all rows out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from llava_shape import write_checkpoint
from onnx_ir.passes.common import RemoveUnusedNodesPass
from tokenizers import Tokenizer

from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.reference import Reference
from edgevlm.models.source import SourceOptions, open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose

__all__ = ["ROLE", "LanguageModel", "feeds_of", "llava", "text_model"]

#: what the one part is called; not `prefill`, whose rows would be taken for those of a picture
ROLE = "vision"


@dataclass(frozen=True)
class LanguageModel:
    """A model of one part, and what makes its inputs."""

    model: ExportedModel
    tokenizer: Tokenizer
    table: np.ndarray  # float32 [V,D]
    rows: int  # of a window
    made_of: dict[str, Any]

    def with_part(self, part: ir.Model) -> ExportedModel:
        return replace(self.model, parts={ROLE: part})


def llava(options: SourceOptions) -> tuple[ExportedModel, dict[str, Any]]:
    """The whole model, and what it is made of."""
    checkpoint = cache_root() / "llava-shape"
    made_of = checkpoint / "made-of.json"
    if not made_of.exists():
        made_of.write_text(json.dumps(write_checkpoint(checkpoint)))
    return open_source(str(checkpoint), options), json.loads(made_of.read_text())


def text_model(options: SourceOptions) -> LanguageModel:
    """prefill with the norm and the head behind every row, not the last one alone."""
    model, made_of = llava(options)
    part = model.parts["prefill"].clone()
    gather = next(n for n in part.graph if n.op_type == "Gather" and _is_last(n))
    rows = gather.inputs[0]
    ir.convenience.replace_all_uses_with(gather.outputs[0], rows)
    head = [n for n in part.graph if n.op_type == "MatMul"][-1].outputs[0]
    for value in _behind(rows):
        value.shape = ir.Shape([1, int(rows.shape[1]), *value.shape[2:]])
    part.graph.outputs[:] = [head]
    RemoveUnusedNodesPass()(part)
    part.graph.inputs[:] = [v for v in part.graph.inputs if v.uses()]
    alone = replace(model, parts={ROLE: part})
    cleanup = make_passes(compose("host-cpu", "ort", Flags()))
    for step in cleanup:
        if step.name in ("fold-constants", "fuse-attention", "merge-duplicates", "drop-zero-masks"):
            alone = step(alone).model
    table = next(
        v.const_value.numpy()
        for n in model.parts["embed"].graph
        if n.op_type == "Gather"
        for v in n.inputs[:1]
    )
    tokenizer = Tokenizer.from_str(model.tokenizer.decode())
    return LanguageModel(alone, tokenizer, table, int(rows.shape[1]), made_of)


def feeds_of(language: LanguageModel, ids: np.ndarray) -> dict[str, np.ndarray]:
    """One window of ids [rows]."""
    names = {str(v.name) for v in language.model.parts[ROLE].graph.inputs}
    feeds = {
        "inputs_embeds": language.table[ids][None].astype(np.float32),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
    }
    return {name: feeds[name] for name in names}


def observed(language: LanguageModel, windows: list[np.ndarray]) -> Reference:
    """What calibrated passes look at."""
    return Reference([{ROLE: feeds_of(language, ids)} for ids in windows], [], [])


def _is_last(node: ir.Node) -> bool:
    """Whether it takes the row that `last_index` names."""
    maker = node.inputs[1].producer()
    return maker is not None and any(str(v.name) == "last_index" for v in maker.inputs if v)


def _behind(value: ir.Value) -> list[ir.Value]:
    """Values between it and the head, whose one row becomes all rows."""
    norm = [n for n, _ in value.uses() if n.op_type == "RMSNormalization"][-1]
    product = next(n for n, _ in norm.outputs[0].uses())
    return [norm.outputs[0], product.outputs[0]]
