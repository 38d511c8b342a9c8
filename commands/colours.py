"""What lines and points of plots are drawn in."""

from __future__ import annotations

__all__ = ["COLOURS"]

#: Okabe and Ito's colours, which the colour-blind can tell apart, and six more
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F",
           "#6A3D9A", "#B2DF8A", "#B15928", "#003F5C", "#A05195")  # fmt: skip
