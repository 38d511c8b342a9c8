"""Which node each kernel of an XNNPACK delegate is: XNNPACK keeps no names of ours.

    delegate's nodes   linear a, linear b, mul, permute_copy
    its kernels        Fully Connected #1, Fully Connected #2, Multiply #1, Transpose #1

Both are in the order of the graph, kind by kind. So the n-th kernel of a kind is the n-th node of
that kind, if there are as many of one as of the other; else XNNPACK fused or left out some, and no
kernel of that kind is told a node. A guess that may be wrong is never made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from edgevlm.runtimes.executorch.kernels import split_kernel
from edgevlm.runtimes.executorch.nodes import Node

__all__ = ["aligned"]

#: kind of XNNPACK's kernel -> ops of the edge dialect that become it
#: (backends/xnnpack/operators/*.py of executorch 1.5.1)
KINDS: dict[str, tuple[str, ...]] = {
    "Fully Connected": ("linear", "addmm", "mm"),
    "Batch Matrix Multiply": ("bmm",),
    "Convolution": ("convolution",),
    "Softmax": ("_softmax",),
    "GELU": ("gelu",),
    "Sigmoid": ("sigmoid",),
    "Tanh": ("tanh",),
    "Add": ("add",),
    "Subtract": ("sub",),
    "Multiply": ("mul",),
    "Square": ("square",),
    "Divide": ("div",),
    "Maximum": ("maximum",),
    "Minimum": ("minimum",),
    "Transpose": ("permute_copy", "transpose_copy", "t_copy"),
    "Concatenate": ("cat",),
    "Slice": ("slice_copy",),
    "Constant Pad": ("constant_pad_nd",),
    "Clamp": ("relu", "clamp", "hardtanh"),
    "Cosine": ("cos",),
    "Sine": ("sin",),
    "Exp": ("exp",),
    "Abs": ("abs",),
    "Negate": ("neg",),
    "Reciprocal Square Root": ("rsqrt",),
    "Square Root": ("sqrt",),
}
RESHAPES = ("view_copy", "unsqueeze_copy", "squeeze_copy")
KINDS["Static Reshape"] = RESHAPES


def aligned(kernels: Sequence[str], nodes: Iterable[Node]) -> list[str | None]:
    """The node of each kernel of one delegate call, or None; kernels by their names, in order."""
    by_op: dict[str, list[str]] = defaultdict(list)
    for op, kind in ((op, kind) for kind, ops in KINDS.items() for op in ops):
        by_op[op].append(kind)
    wanted: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        for kind in by_op.get(node.op, ()):
            wanted[kind].append(node.node)
    kinds = [split_kernel(kernel).kind for kernel in kernels]
    given = {kind: iter(names) for kind, names in wanted.items() if len(names) == kinds.count(kind)}
    return [next(given[kind]) if kind in given else None for kind in kinds]
