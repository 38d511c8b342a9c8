"""What coreai-torch would spell out, and Core AI has one op for; and what it has not.

    index_copy    a row put into a cache    gather, scatter    ->  coreai.slice_update, in place
    rms_norm                                eight ops          ->  composite "rms_norm"

Apple's own exporter does both (https://github.com/apple/coreai-models, export/mlir_ops.py and
export/macos.py). A composite is a function that the compiler on the device knows by name and has a
kernel for; who does not know it runs what is inside. LayerNorm and attention are composites already
(https://apple.github.io/coreai-torch/, Composite ops).

    isnan(x)   ->  not x == x
    argmin(x)  ->  argmax(-x)         the first of equals, as there
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["decompositions", "register"]

#: ops of torch that must not be decomposed before these lowerings see them
KEPT = ("index_copy", "rms_norm")
#: of Apple's declaration of the composite
RMS_NORM = "rms_norm"


def decompositions(default: Mapping[Any, Any]) -> dict[Any, Any]:
    """Of ops of torch before they are lowered; default: coreai-torch's own."""
    aten = torch.ops.aten
    kept = {op: how for op, how in default.items() if _name(op) not in KEPT}
    return kept | {aten.isnan.default: _is_nan, aten.argmin.default: _arg_min}


def _name(op: Any) -> str:
    return op.name().split("::")[-1].split(".")[0]


def _is_nan(x: Tensor) -> Tensor:
    return torch.logical_not(torch.eq(x, x))


def _arg_min(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return torch.argmax(-x, dim, keepdim)


def register(converter: Any) -> None:
    """For one `coreai_torch.TorchConverter`."""
    converter.register_torch_lowering("aten::index_copy.default")(_write_rows)
    converter.register_torch_lowering("aten::rms_norm.default")(_rms_norm)


def _write_rows(values: dict[str, Any], node: Any, loc: Any) -> Any:
    """index_copy(x, axis, places, new): rows behind each other, from the first place on."""
    from coreai._compiler.dialects import coreai
    from coreai_torch._utils import get_operands

    x, places, new = get_operands(values, node, [0, 2, 3], loc)
    axis, rank = node.args[1], x.type.rank
    along = np.array([int(i == axis % rank) for i in range(rank)], np.int32)
    first = coreai.slice_(places, [0], [1], [1], loc=loc)
    begin = coreai.broadcasting_mul(coreai.cast(first, np.int32), coreai.constant(along), loc=loc)
    size = coreai.constant(np.array(new.type.shape, np.int32))
    end = coreai.broadcasting_add(begin, size, loc=loc)
    return coreai.slice_update(x, begin, end, [1] * rank, new, loc=loc)


def _rms_norm(values: dict[str, Any], node: Any, loc: Any) -> Any:
    """Over the last axis; in float32 inside, as Apple's composite is."""
    from coreai._compiler.dialects import coreai
    from coreai._compiler.ir import Value
    from coreai_torch import generate_composite_decl
    from coreai_torch._utils import get_operands

    x, gain = get_operands(values, node, [0, 2], loc)
    epsilon, kind = float(node.args[3]), x.type.element_type
    last = x.type.rank - 1
    declared = generate_composite_decl(
        x.context, RMS_NORM, ["input", "scale"], ["output"], {"axes": [-1], "eps": epsilon}
    )

    def rms_norm(value: Any, scale: Any) -> Any:
        wide = coreai.cast(value, np.float32)
        mean = coreai.reduce_mean(coreai.broadcasting_mul(wide, wide), [last])
        epsilons = coreai.constant(epsilon, dtype=mean.type.element_type)
        factor = coreai.rsqrt(coreai.broadcasting_add(mean, epsilons))
        y = coreai.cast(coreai.broadcasting_mul(wide, factor), kind)
        return coreai.broadcasting_mul(y, scale)

    # the type that tells values from constants; their shapes are those of the call
    rms_norm.__annotations__ = dict.fromkeys(("value", "scale", "return"), Value)
    graph = coreai.graph(private=True, no_inline=True, composite_decl=declared)(rms_norm)
    return graph(x, gain)[0]
