"""Draw what is stored along an axis anew, for another size: a position table at other places.

The axis may be part of a product (rows of a grid whose places are one dimension) or of a sum
(places behind a class token); everything else of the tensor stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Axis, Term, expand, size_of
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.errors import JobFault

__all__ = ["Resample", "drawn_anew", "refused"]

#: (float array [n,...], size) -> [size,...]
Resample = Callable[[np.ndarray, int], np.ndarray]


def refused(what: str, why: str) -> JobFault:
    """The error of a resize that cannot be."""
    return JobFault(
        "EV211",
        f"resize stops at {what}",
        why,
        "edgevlm inspect MODEL --axes  shows the axes of every value",
    )


def drawn_anew(
    node: ir.Node,
    position: int,
    dims: list[Term],
    axis: Axis,
    above: set[Axis],
    resample: Resample,
    size: int,
) -> np.ndarray:
    """A stored tensor with what lies along the axis resampled."""
    value = node.inputs[position]
    array = value.const_value.numpy()
    lying = [i for i, term in enumerate(dims) if not above.isdisjoint(expand(term))]
    if array.dtype.kind != "f" or len(lying) != 1:
        kind = "lies along it more than once" if len(lying) > 1 else f"holds {array.dtype} numbers"
        raise refused(
            str(value.name),
            f"this stored tensor (input {position} of {who(node)}) {kind}; only a table of real "
            f"numbers, one a place, can be drawn anew for {size} of {axis!r}",
        )
    moved = np.moveaxis(array, lying[0], 0)
    made = _stretched(moved, dims[lying[0]], axis, above, resample, size)
    return np.moveaxis(made, 0, lying[0]).astype(array.dtype)


def _stretched(
    array: np.ndarray, term: Term, axis: Axis, above: set[Axis], resample: Resample, size: int
) -> np.ndarray:
    """The axis resampled, wherever in the first dimension it is."""
    atoms = expand(term)
    if above.isdisjoint(atoms):
        return array
    if atoms == [axis]:
        return resample(array, size)
    parts = parts_of(term)
    if len(parts) > 1:
        pieces = np.split(array, np.cumsum([size_of(part) for part in parts])[:-1])
        pairs = zip(pieces, parts, strict=True)
        return np.concatenate([_stretched(a, t, axis, above, resample, size) for a, t in pairs])
    rest, whole = array.shape[1:], array.reshape(*(atom.size for atom in atoms), *array.shape[1:])
    for i, atom in enumerate(atoms):
        if atom in above:
            moved = np.moveaxis(whole, i, 0)
            moved = _stretched(moved, (atom,), axis, above, resample, size)
            whole = np.moveaxis(moved, 0, i)
    return whole.reshape(-1, *rest)
