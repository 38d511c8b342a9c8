"""Which dimension is what: the analysis every structural pass is written on.

`analyse` names the dimensions of all values (token, head, head_dim, channel, hidden, class, batch,
frame, kv) and `resize` changes one of them everywhere. See `axis.py` for the idea, `equations.py`
for its algebra, `rules/` for the table of ops, `resize.py` for the edit, `cut.py` to free one side
of an edge from the other.
"""

from __future__ import annotations

from edgevlm.compiler.axes.analysis import Analysis, Signature, analyse
from edgevlm.compiler.axes.axis import Axis, Term, size_of
from edgevlm.compiler.axes.resize import carries, resize, single

__all__ = [
    "Analysis",
    "Axis",
    "Signature",
    "Term",
    "analyse",
    "carries",
    "resize",
    "single",
    "size_of",
]
