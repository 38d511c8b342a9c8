"""What ONNX Runtime's CPU provider takes, for the legaliser and for `doctor`."""

from __future__ import annotations

from edgevlm.compiler.axes.rules import RULES
from edgevlm.runtimes.base import Capabilities

__all__ = ["CAPABILITIES"]

#: The dialect is what the axis analysis knows; opset 23 ops (Attention, RMSNormalization,
#: RotaryEmbedding) run as they are from ONNX Runtime 1.23 on.
CAPABILITIES = Capabilities(
    opset=23,
    ops=frozenset(RULES),
    dtypes=frozenset(
        {"FLOAT", "FLOAT16", "DOUBLE", "INT64", "INT32", "INT8", "INT4", "UINT8", "BOOL"}
    ),
)
