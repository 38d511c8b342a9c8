"""What OpenVINO's ONNX frontend and CPU plugin take, for the legaliser and for `doctor`.

A test runs every op of this table here and in ONNX Runtime. Two that are read in most forms are
refused in others when the part is opened, with OpenVINO's reason (EV304): GatherElements of fewer
rows than the data has on another axis, LayerNormalization over several axes. The plugin computes
int64 in 32 bits.
"""

from __future__ import annotations

from edgevlm.compiler.axes.rules import RULES
from edgevlm.runtimes.base import Capabilities

__all__ = ["CAPABILITIES", "UNKNOWN"]

#: ops of the dialect that the frontend has no rule for
UNKNOWN = frozenset({"TensorScatter"})

CAPABILITIES = Capabilities(
    opset=23,
    ops=frozenset(RULES) - UNKNOWN,
    dtypes=frozenset(
        {"FLOAT", "FLOAT16", "DOUBLE", "INT64", "INT32", "INT8", "INT4", "UINT8", "BOOL"}
    ),
)
