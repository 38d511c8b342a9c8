"""What became of every layer: bits, scales, outliers, how its input is rounded, how far it is off.

`layer_rows` is made once, at compile time, from the graphs that were lowered and goes into
record.json; `edgevlm inspect BUNDLE --quant` prints it and draws it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.palettes import find_palette
from edgevlm.compiler.quantised import STORED, is_float8, is_rounded
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.stray import drift_by_value

__all__ = ["average_bits", "layer_rows"]


def layer_rows(
    base: ExportedModel, model: ExportedModel, before: Reference, after: Reference
) -> list[dict[str, Any]]:
    """A row a quantised layer, in the order in which it runs; drift is that of what it gives.

    base, before: the model just before its first rounding, and what it did on the probes; model,
    after: the same of the last one.
    """
    rows = []
    for role, part in model.parts.items():
        mine = [_row(role, node) for node in part.graph if STORED in node.metadata_props]
        feeds = [
            (a[role], b[role])
            for a, b in zip(before.feeds, after.feeds, strict=True)
            if role in a and role in b
        ]
        names = [row["output"] for row in mine]
        drift = drift_by_value(base.parts[role], part, names, feeds) if feeds else {}
        for row in mine:
            found = drift.get(row["output"])
            finite = found is not None and math.isfinite(found)
            row["drift_db"] = round(found, 2) if finite else None
        rows += mine
    return rows


def average_bits(rows: list[dict[str, Any]]) -> float:
    """Bits a weight, outliers included but not their places; shared weights count once."""
    seen = {row["digest"]: row for row in rows}.values()
    bits = sum(
        row["weights"] * (row["bits"] + row.get("outliers", 0) * row.get("outlier_bits", 0))
        for row in seen
    )
    return bits / (sum(row["weights"] for row in seen) or 1)


def _row(role: str, node: ir.Node) -> dict[str, Any]:
    stored = json.loads(node.metadata_props[STORED])
    palette = find_palette(node)  # the numbers of its tables are what others have scales for
    scale = node.inputs[0 if palette else 1].const_value
    if scale is None:  # rows of a table: the scales are looked up with them
        table = node.inputs[1].producer().inputs[0].producer().inputs[0]
        scale = table.const_value
    scale = scale.numpy()
    users = [user for user, _ in node.outputs[0].uses()]
    return {
        "part": role,
        **stored,
        "scales": int(scale.size),
        "scale_min": float(f"{scale.min():.4g}"),
        "scale_max": float(f"{scale.max():.4g}"),
        **_activation(users[0] if users else None, stored["kind"]),
    }


def _activation(user: ir.Node | None, kind: str) -> dict[str, Any]:
    if user is None or kind == "table" or not is_rounded(user.inputs[0]):
        return {"input": "float", "input_scale": None}
    scale = user.inputs[0].producer().inputs[1].const_value
    if scale is None:
        return {"input": "int8, a scale a block", "input_scale": None}
    dequantised = user.inputs[0].producer()
    stored = "e4m3" if is_float8(dequantised) else dequantised.inputs[0].dtype.name.lower()
    return {"input": stored, "input_scale": float(f"{float(np.max(scale.numpy())):.4g}")}
