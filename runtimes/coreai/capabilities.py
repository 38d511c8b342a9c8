"""What of our dialect goes into a Core AI asset; a test runs every op of it, as Core AI does.

Forms that coreai-torch has nothing for are refused in its words (EV303): ScatterElements and
ScatterND that add up, a diagonal in an Einsum, MaxPool of volumes, shifts by numbers that are
computed, sizes of zero. Codes with a zero point, and scales that are computed at run time for what
is rounded, are refused in ours.
"""

from __future__ import annotations

from edgevlm.compiler.axes.rules import RULES
from edgevlm.runtimes.base import Capabilities

__all__ = ["CAPABILITIES", "UNKNOWN"]

#: ops of the dialect that coreai-torch has nothing for
UNKNOWN = frozenset({"DynamicQuantizeLinear"})
DTYPES = frozenset({"FLOAT", "FLOAT16", "INT64", "INT32", "INT8", "INT4", "UINT8", "UINT4", "BOOL"})
CAPABILITIES = Capabilities(23, frozenset(RULES) - UNKNOWN, DTYPES, tables=True)
