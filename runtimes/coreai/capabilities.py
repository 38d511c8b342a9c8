"""What of our dialect goes into a Core AI asset; a test runs every op of it, as Core AI does."""

from __future__ import annotations

from edgevlm.compiler.axes.rules import RULES
from edgevlm.runtimes.base import Capabilities

__all__ = ["CAPABILITIES"]

DTYPES = frozenset({"FLOAT", "FLOAT16", "INT64", "INT32", "INT8", "INT4", "UINT8", "BOOL"})
CAPABILITIES = Capabilities(opset=23, ops=frozenset(RULES), dtypes=DTYPES)
