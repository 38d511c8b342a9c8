"""What image rows of a product get that text rows do not: a factor a channel and a thin branch.

    x [1,T,m]   -> x[:a] | x[a:b] / r | x[b:] -> MatMul Deq(Wq) -> y[:a] | y[a:b] + z | y[b:]
                           x[a:b] / r -> MatMul L1 [m,k] -> MatMul L2 [k,n] -> z

Text rows go by untouched: sliced out and put back, nothing is computed on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.blocks import NORMS
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.columns import MOVES
from edgevlm.compiler.pass_base import Note
from edgevlm.compiler.quantised import weights_of
from edgevlm.passes.quantize.compensation.smoothing import low_rank, smooth_scale
from edgevlm.passes.quantize.grids import Grid

__all__ = ["ImageBranch", "fit_branch", "image_places", "stored_rows"]

POWERS = (0.0, 0.5, 1.0)  # of r
SAMPLE = 512  # rows on which they are compared
Pair = tuple[np.ndarray, np.ndarray]


def image_places(graph: ir.Graph, length: int) -> tuple[dict[ir.Value, list[ir.Node]], list[Note]]:
    """Values [1,length,m] behind a norm or attention -> their products with integer weights."""
    found: dict[ir.Value, list[ir.Node]] = {}
    notes = []
    for node in graph:
        stored = node.op_type == "MatMul" and weights_of(node) is not None
        if not stored or node.outputs[0].is_graph_output():
            continue
        value, why = node.inputs[0], ""
        if [int(d) for d in value.shape[:-1]] != [1, length]:
            why = f"{list(value.shape)} are not the rows of the prompt"
        elif not _fed_by_norm_or_attention(value):
            why = "neither behind a norm nor behind attention"
        if why:
            notes.append(Note("skipped", f"prefill/{node.name}", why))
        else:
            found.setdefault(value, []).append(node)
    return found, notes


def fit_branch(
    wanted: Sequence[np.ndarray],
    products: Sequence[ir.Node],
    image: np.ndarray,
    text: np.ndarray,
    rank: int,
    bits: int,
) -> tuple[np.ndarray, list[Pair]]:
    """(r [m], (L1 [m,k], L2 [k,n]) of each product); wanted: its weights [n,m] before rounding.

    image, text [T,m]: rows of the calibration inputs. Both share a scale where inputs have `bits`,
    so r is chosen by what both lose, each relative to what it has.
    """
    real = [np.asarray(w, np.float64) for w in wanted]
    have = [stored_rows(node) for node in products]
    top_w = np.max([np.abs(w).max(0) for w in real], axis=0)
    full = smooth_scale(np.abs(image).max(0), top_w)
    some, words = (rows[:: max(1, len(rows) // SAMPLE)] for rows in (image, text))
    values, vectors = np.linalg.eigh(image.T @ image)
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T  # root^T root: all rows' covariance
    best: tuple[np.ndarray, list[Pair]] | None = None
    least = np.inf
    for power in POWERS if bits else POWERS[:1]:
        ratio = full**power
        parts = [
            low_rank(w * ratio - q, root / ratio, rank) for w, q in zip(real, have, strict=True)
        ]
        top = max(float(np.abs(rows).max(initial=0)) for rows in (image / ratio, text))
        x, seen, told = some / ratio, _rounded(some / ratio, top, bits), _rounded(words, top, bits)
        error = 0.0
        for w, q, (a, b) in zip(real, have, parts, strict=True):
            error += _lost(some @ w.T, seen @ q.T + (x @ b.T) @ a.T) + _lost(
                words @ w.T, told @ q.T
            )
        if error < least:
            best, least = (ratio, [(b.T, a.T) for a, b in parts]), error
    return best


def stored_rows(node: ir.Node) -> np.ndarray:
    """float64 [n,m]: the numbers that a MatMul's integer weights stand for."""
    maker = weights_of(node)
    codes, scale = (np.asarray(v.const_value.numpy(), np.float64) for v in maker.inputs[:2])
    axis = maker.attributes.get_int("axis", 1)
    if scale.ndim == 2:
        block = maker.attributes.get_int("block_size", 0)
        scale = np.repeat(scale, block, axis).take(range(codes.shape[axis]), axis)
    elif scale.ndim == 1:
        scale = scale[:, None] if axis == 0 else scale
    return (codes * scale).T


class ImageBranch:
    """Writes them into prefill; image rows are span[0] to span[1]."""

    def __init__(self, part: ir.Model, span: tuple[int, int]) -> None:
        self.build, self.span = GraphBuilder(part, "compensate_modalities"), span

    def __call__(
        self, value: ir.Value, products: Sequence[ir.Node], ratio: np.ndarray, pairs: list[Pair]
    ) -> None:
        rows = self._slice(value, *self.span)
        if (ratio != 1).any():
            rows = self._typed("Mul", rows.shape, rows, self._float(1 / ratio))
            whole = self._joined(value, rows)
            for node in products:
                node.replace_input_with(0, whole)
        for node, (first, second) in zip(products, pairs, strict=True):
            count, out = self.span[1] - self.span[0], node.outputs[0]
            thin = self._typed("MatMul", [1, count, first.shape[1]], rows, self._float(first))
            more = self._typed("MatMul", [1, count, second.shape[1]], thin, self._float(second))
            users = list(out.uses())
            mended = self._typed("Add", more.shape, self._slice(out, *self.span), more)
            whole = self._joined(out, mended)
            for user, position in users:
                user.replace_input_with(position, whole)
            whole.name, out.name = out.name, f"{out.name}_text"  # reports look for what it gives

    def finish(self) -> None:
        self.build.finish()

    def _joined(self, value: ir.Value, middle: ir.Value) -> ir.Value:
        """value with other image rows."""
        length, (first, last) = int(value.shape[1]), self.span
        parts = [self._slice(value, 0, first)] if first else []
        parts.append(middle)
        parts += [self._slice(value, last, length)] if last < length else []
        return self._typed("Concat", value.shape, *parts, axis=1)

    def _slice(self, value: ir.Value, first: int, last: int) -> ir.Value:
        bounds = [self.build.const([n]) for n in (first, last, 1)]
        return self._typed("Slice", [1, last - first, int(value.shape[-1])], value, *bounds)

    def _typed(
        self, op: str, shape: Sequence[int] | ir.Shape, *inputs: ir.Value, **attributes: int
    ) -> ir.Value:
        made = self.build(op, *inputs, **attributes)
        made.shape, made.dtype = ir.Shape(shape), ir.DataType.FLOAT
        return made

    def _float(self, array: np.ndarray) -> ir.Value:
        return self.build.const(array, np.float32)


def _lost(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(np.square(got - wanted).sum() / max(np.square(wanted).sum(), 1e-30))


def _rounded(x: np.ndarray, top: float, bits: int) -> np.ndarray:
    """As quantize-activations does, one scale for all rows of the prompt."""
    if not bits or not top:
        return x
    scale = top / Grid(bits).high
    return np.rint(x / scale) * scale


def _fed_by_norm_or_attention(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in MOVES:
        node = node.inputs[0].producer()
    return node is not None and (node.op_type in NORMS or node.op_type == "Attention")
