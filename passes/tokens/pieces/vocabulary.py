"""The rows of the word embedding table, for methods that hold image tokens against words."""

from __future__ import annotations

import numpy as np

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["word_rows"]


def word_rows(model: ExportedModel) -> np.ndarray:
    """float32 [V,D], rows of length 1. Raises EV230 where no plain table is looked up."""
    for node in model.parts["embed"].graph:
        table = node.inputs[0].const_value if node.op_type == "Gather" else None
        if table is not None and len(table.shape) == 2:
            rows = np.asarray(table.numpy(), np.float32)
            return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    raise UsageFault(
        "EV230",
        "the word embedding table of this model",
        "its embed part does not look words up in one plain table",
        "--prune embedlens without rule=vocabulary",
    )
