"""What of our dialect goes into an ExecuTorch program: what the bridge to torch has."""

from __future__ import annotations

from edgevlm.compiler.axes.rules import RULES
from edgevlm.runtimes.base import Capabilities

__all__ = ["CAPABILITIES"]

DTYPES = frozenset({"FLOAT", "INT64", "INT32", "INT16", "INT8", "INT4", "UINT8", "BOOL"})
CAPABILITIES = Capabilities(opset=23, ops=frozenset(RULES), dtypes=DTYPES)
