"""What a rule of outliers would keep of the probe pictures, for a budget that is fixed (P7).

outliers of s: s_i > Q3 + 1.5 (Q3 - Q1)      their number is the picture's, a graph's is not
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.view import View

if TYPE_CHECKING:
    from edgevlm.compiler.reference import Reference

__all__ = ["above_fence", "note_outliers"]


def above_fence(score: np.ndarray) -> int:
    """How many of scores [N] lie above the third quartile by 1.5 quartile distances."""
    low, high = np.percentile(score, (25, 75))
    return int((score > high + 1.5 * (high - low)).sum())


def note_outliers(view: View, score: ir.Value, seen: Reference | None) -> None:
    """Note the numbers of outliers of `score` [N] in the probe pictures, where there are some."""
    pictures = [f["pixel_values"] for f in seen.fed("vision")] if seen else []
    if not pictures:
        return
    session = open_session(_only(view, score))
    found = [
        above_fence(session.run(None, {"pixel_values": picture[None]})[0])
        for picture in np.unique(np.concatenate(pictures), axis=0)
    ]
    view.note(
        f"of {len(found)} probe pictures the IQR rule would keep {min(found)} to {max(found)} of "
        f"{view.count} tokens, {np.mean(found):.1f} in the mean, and about three times as many "
        "spread ones"
    )


def _only(view: View, value: ir.Value) -> ir.Model:
    """The part as it is being built, with nothing but `value` as its output."""
    view.build.finish()
    part = view.build.model.clone()
    made = next(v for node in part.graph for v in node.outputs if v.name == value.name)
    part.graph.outputs.clear()
    part.graph.outputs.append(made)
    RemoveUnusedNodesPass()(part)
    return part
