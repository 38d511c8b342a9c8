"""What of our dialect goes into a Core ML program; a test converts a form of every op of it.

Forms that coremltools has nothing for are refused in its words (EV309): MaxPool whose windows have
gaps, inputs of eight bits.
"""

from __future__ import annotations

from edgevlm.compiler.axes.rules import RULES
from edgevlm.runtimes.base import Capabilities

__all__ = ["CAPABILITIES", "UNKNOWN"]

#: ops of the dialect that MIL has not: it knows no bits, and no area of these two angles
UNKNOWN = frozenset({"Acosh", "Asinh", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
DTYPES = frozenset({"FLOAT", "FLOAT16", "INT64", "INT32", "INT8", "INT4", "UINT8", "UINT4", "BOOL"})
CAPABILITIES = Capabilities(23, frozenset(RULES) - UNKNOWN, DTYPES, tables=True)
