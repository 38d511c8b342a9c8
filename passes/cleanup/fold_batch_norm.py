"""Batch normalisation is multiplied into the convolution in front of it.

    before: x -> Conv(w, b) -> BatchNormalization(gain, shift, mean, variance)
    after:  x -> Conv(w x s, (b - mean) x s + shift)        s = gain / sqrt(variance + epsilon)

Paper: 1502.03167. Conv and ConvTranspose, in groups too. Computed in float64, stored as float32.
Refused, with a note: a node that is still training, weights that are computed or no float32, a
result that somebody else reads as well, another op in front. Expected effect: exact to rounding;
one pass over the activations less.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.cleanup.fuse_pattern import Found, Fusion, produced

__all__ = ["FoldBatchNorm"]


class FoldBatchNorm(Fusion):
    name = "fold-batch-norm"
    summary = "batch normalisation is multiplied into the convolution in front"
    paper = "1502.03167"
    anchors = frozenset({"BatchNormalization"})
    becomes = "part of a convolution"

    def match(self, anchor: ir.Node) -> Found | str | None:
        conv = produced(anchor.inputs[0], "Conv", "ConvTranspose")
        if conv is None:
            before = anchor.inputs[0].producer()
            return f"it follows {before.op_type if before is not None else 'an input'}"
        if attribute(anchor, "training_mode", 0) or any(v.uses() for v in anchor.outputs[1:]):
            return "it is still training"
        stored = [*anchor.inputs[1:5], *conv.inputs[1:]]
        if any(v is not None and v.const_value is None for v in stored):
            return "one of its weights is computed"
        if any(v is not None and v.dtype is not ir.DataType.FLOAT for v in stored):
            return "one of its weights is no float32"
        weight, bias = _folded(anchor, conv)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            return "its variance or gain is no number that float32 can hold"
        attributes = {name: a.value for name, a in conv.attributes.items()}

        def make(build: GraphBuilder) -> ir.Value:
            constants = [build.const(array, np.float32) for array in (weight, bias)]
            return build(conv.op_type, conv.inputs[0], *constants, **attributes)

        return Found(anchor.outputs[0], [anchor, conv], make)


def _folded(norm: ir.Node, conv: ir.Node) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the convolution that does both, float32."""
    gain, shift, mean, variance = (_wide(v) for v in norm.inputs[1:5])
    with np.errstate(all="ignore"):
        scale = gain / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
        weight = _wide(conv.inputs[1])
        given = len(conv.inputs) > 2 and conv.inputs[2] is not None
        bias = _wide(conv.inputs[2]) if given else np.zeros_like(mean)
        bias = (bias - mean) * scale + shift
        if conv.op_type == "Conv":  # [out, in / groups, ...]
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        else:  # [in, out / groups, ...]: a group has its own rows of inputs
            groups = attribute(conv, "group", 1)
            split = weight.reshape(groups, -1, *weight.shape[1:])
            weight = split * scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
            weight = weight.reshape(conv.inputs[1].shape)
        return weight.astype(np.float32), bias.astype(np.float32)


def _wide(value: ir.Value) -> np.ndarray:
    return value.const_value.numpy().astype(np.float64)
