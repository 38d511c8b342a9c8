"""Tables that an op computes once and keeps beside its call."""

from __future__ import annotations

from torch import Tensor

__all__ = ["alike", "beside"]


def alike(table: Tensor, x: Tensor) -> Tensor:
    """The table in the format and on the device of x; itself where it is so already, so that
    torch.export sees no conversion."""
    if (table.dtype, table.device) == (x.dtype, x.device):
        return table
    return table.to(x.device, x.dtype)


def beside(table: Tensor, x: Tensor) -> Tensor:
    """The same for what keeps its own format: places."""
    return table if table.device == x.device else table.to(x.device)
