"""Layers whose rounding looks at inputs, in the order in which these flow through a part.

Each is shown what the layers in front of it have become, and, where its method asks, what the float
model shows it. Layers that read one value share one sum. Padding rows are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.reference import Reference
from edgevlm.passes.quantize.compensation.gram import Gram
from edgevlm.passes.quantize.kinds import PADDING, counted, kinds_of
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.scheme import FITTED, Scheme
from edgevlm.passes.quantize.walk import Walk

__all__ = ["flow"]

Put = Callable[[Layer, Scheme, Gram | None], None]


def flow(
    role: Role,
    part: ir.Model,
    clone: ir.Model,
    layers: Sequence[tuple[Layer, Scheme]],
    seen: Reference,
    put: Put,
) -> None:
    """Calls `put` once a layer of `clone`, a clone of `part` so far; put rounds and stores.

    A layer nobody saw an input of, or whose inputs are not finite, is put without.
    """
    groups: dict[ir.Value, list[tuple[Layer, Scheme]]] = {}
    for layer, scheme in layers:
        groups.setdefault(layer.node.inputs[0], []).append((layer, scheme))
    feeds, kinds = seen.fed(role), kinds_of(seen, role)
    both = any(FITTED[scheme.method] != "plain" for _, scheme in layers)
    walk, real = Walk(clone, feeds), Walk(part, feeds) if both else None
    twins = {str(node.outputs[0].name): node for node in part.graph}
    for value, group in groups.items():
        first = group[0][0].node
        walk.to(first)
        xs, aims = walk.inputs(value), [None] * len(feeds)
        if real:
            twin = twins[str(first.outputs[0].name)]
            real.to(twin)
            aims = real.inputs(twin.inputs[0])
        gram = _gram(int(value.shape[-1]), xs, aims, kinds)
        for layer, scheme in group:
            put(layer, scheme, gram if layer.takes_rows else None)


def _gram(
    width: int,
    xs: Sequence[np.ndarray],
    aims: Sequence[np.ndarray | None],
    kinds: Sequence[np.ndarray | None],
) -> Gram | None:
    gram = Gram(width)
    for x, aim, kind in zip(xs, aims, kinds, strict=True):
        rows = counted(x, kind)
        known = kind is not None and len(kind) == x.size // width
        wanted = None if aim is None else counted(aim, kind)
        try:
            gram.add(rows, wanted, kind[kind != PADDING] if known else None)
        except ValueError:
            return None
    return gram if gram.tokens else None
