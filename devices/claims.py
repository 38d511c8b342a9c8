"""What a device file says in words or of a whole model: traps, and times that others published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgevlm.devices.facts import Dtype, Kebab, Number, Sourced, Text

__all__ = ["Published", "Trap"]


class Trap(Sourced):
    """Something that bites on this device; `value` and `unit` when it is a limit."""

    text: Text
    value: Number | None = None
    unit: Text | None = None
    limits: Literal["contiguous"] | None = None  # the largest tensor, in MiB

    @model_validator(mode="after")
    def _a_limit_has_a_value(self) -> Trap:
        if self.limits and not (self.unit == "MiB" and self.value and self.value > 0):
            raise ValueError("what limits tensors has a value in MiB")
        return self


class Published(Sourced):
    """What somebody measured of a known model there: the yardstick where no rate is printed."""

    what: Text
    value: Annotated[Number, Field(gt=0)]  # of one run
    unit: Literal["ms"]
    gmac: Annotated[Number, Field(gt=0)]  # 1e9 multiply-accumulates of one run
    dtype: Dtype  # of its products
    runtime: Kebab

    @property
    def rate(self) -> float:
        """Operations a second of the whole run, a multiply-add being two."""
        return 2e9 * self.gmac / (self.value / 1e3)
