"""Rows of very different sizes, made alike in front of the norm that makes them alike anyway.

    before: embeddings of pictures (0.04) and of words (2.2) -> RMSNormalization
    after:  the same -> x 1 / size of the row, a constant each -> RMSNormalization

A norm gives the same for a row and its double. With one scale for all rows the squares of the small
ones are nothing, and their reciprocal roots a few codes: the worst prompt of easyvqa-tiny came out
at 6 dB, with this and 16 bits at its ports at 18. Sizes are what rows had in the runs that ranges
are fitted to, so they belong to places in the prompt; a row of another size loses digits, not its
meaning. Where sizes go by what is in a picture, and not by place, nothing is scaled. Rows whose
square is not far above epsilon stay: they are no multiples of what they were.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.pieces import Piece
from edgevlm.runtimes.executorch.ethos.cut import Runs

__all__ = ["even_rows"]

NORMS = ("LayerNormalization", "RMSNormalization")
#: of the largest row to the smallest: as much as leaves eight bits five of them
UNEVEN = 8.0
#: so much less uneven rows have to be behind their scales
BETTER = 2.0
#: mean square over epsilon from which on epsilon changes a norm by less than half a percent
ABOVE_EPSILON = 100.0


def even_rows(piece: Piece, fitted: Runs) -> Piece | None:
    """The piece with its uneven rows scaled; None where they are even."""
    names = {n.inputs[0].name for n in _norms(piece.part)}
    sizes = _sizes(piece, fitted, names) if names and fitted.inputs else {}
    part = piece.part.clone()
    build, count = GraphBuilder(part, "even_rows"), 0
    for node in _norms(part):
        scale = _scale(sizes.get(node.inputs[0].name), attribute(node, "epsilon", 1e-5))
        if scale is None:
            continue
        x = build("Mul", node.inputs[0], build.const(scale[..., None], np.float32))
        node.replace_input_with(0, x)
        count += 1
    if not count:
        return None
    build.finish()
    return dataclasses.replace(piece, part=part)


def _scale(sizes: np.ndarray | None, epsilon: float) -> np.ndarray | None:
    """Of each row; sizes: [run, ..]. None where rows are even, or places do not make them so."""
    if sizes is None:
        return None
    middle = np.median(sizes, axis=0)
    kept = np.square(middle) < ABOVE_EPSILON * epsilon
    scale = np.where(kept, 1.0, 1.0 / np.where(kept, 1.0, middle))
    if kept.all():
        return None
    before, after = (_spread(each[:, ~kept]) for each in (sizes, sizes * scale))
    uneven = _spread(middle[~kept]) >= UNEVEN
    return scale if uneven and after <= before / BETTER else None


def _spread(sizes: np.ndarray) -> float:
    return float(sizes.max() / max(sizes.min(), 1e-30))


def _norms(part: ir.Model) -> list[ir.Node]:
    """Over the last axis."""
    return [
        node
        for node in part.graph
        if node.op_type in NORMS
        and attribute(node, "axis", -1) in (-1, len(node.inputs[0].shape) - 1)
    ]


def _sizes(piece: Piece, fitted: Runs, names: set[str | None]) -> dict[str, np.ndarray]:
    """Root of the mean square of every row of these values, [run, ..]."""
    part, ports = piece.part.clone(), [port.name for port in piece.inputs]
    known = {v.name for v in part.graph.outputs} | set(ports)
    made = [v for n in part.graph for v in n.outputs if v.name in names]
    part.graph.outputs.extend(v for v in made if v.name not in known)
    session = open_session(part)
    asked = [v.name for v in made]
    found: dict[str, list[np.ndarray]] = {str(name): [] for name in names}
    for run in fitted.inputs:
        feeds = dict(zip(ports, run, strict=True))
        values = feeds | dict(zip(asked, session.run(asked, feeds) if asked else [], strict=True))
        for name, rows in found.items():
            rows.append(np.sqrt(np.square(values[name].astype(np.float64)).mean(-1)))
    return {name: np.stack(rows) for name, rows in found.items()}
