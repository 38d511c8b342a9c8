"""Static shapes for every value: ONNX shape inference, in place, tensors untouched."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

__all__ = ["infer_shapes"]


def infer_shapes(model: ir.Model) -> ir.Model:
    """Fill in missing shapes and types; known ones stay. Returns the same model."""
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    return model
