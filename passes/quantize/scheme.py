"""How the numbers of a layer are to be stored: bits, blocks, who rounds them, and exceptions.

`quantize-weights` has one scheme; `layers` of its options change it for those whose PART/NAME
matches a glob, the last match counting most:

    [[pass]]
    name = "quantize-weights"
    bits = 4
    layers = [{ match = "decode/*lm_head*", bits = 8 }, { match = "vision/*", method = "none" }]
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgevlm.compiler.pass_base import PassOptions

__all__ = ["FITTED", "LayerRule", "Method", "Number", "Scheme"]

Method = Literal["none", "max", "mse", "gptq", "gptaq", "vlm-ptq", "full", "dasq", "dasq-gptq"]
Number = Literal["int", "e4m3"]
#: methods that look at calibration inputs -> what they take from the inputs of the float model
FITTED = {
    "gptq": "plain",
    "gptaq": "gptaq",
    "vlm-ptq": "vlm-ptq",
    "full": "full",
    "dasq-gptq": "plain",
}


class Scheme(PassOptions):
    """Of one layer. Convolutions and tables take 8 bits, a scale a channel, whatever is asked."""

    bits: int = Field(8, ge=2, le=8, description="of a weight; of its dense part for dasq")
    number: Number = Field("int", description="integers, or FP8 E4M3 (8 bits, a scale a row)")
    block: int = Field(0, ge=0, le=4096, description="inputs that share a scale; 0: a whole row")
    method: Method = Field("max", description="who rounds; none: leave float")
    form: Literal["fold", "branches", "ell"] = Field(
        "fold", description="dasq: one int8 tensor, two products, or a table of outliers"
    )
    outliers: float = Field(0.02, ge=0, le=0.5, description="dasq: share of weights")
    outlier_bits: int = Field(4, ge=2, le=8, description="dasq")
    joint: bool = Field(True, description="dasq: scales and places together; false: in turns")

    @model_validator(mode="after")
    def _fits(self) -> Scheme:
        if self.splits and self.block:
            raise ValueError("dasq has one scale a row: block = 0")
        if self.number == "e4m3" and (self.bits != 8 or self.block or self.splits):
            raise ValueError("e4m3 has 8 bits, one scale a row and no outliers apart")
        if self.splits and self.bits > 6:
            raise ValueError("dasq is for 2 to 6 bits; with more there is nothing to mend")
        return self

    @property
    def splits(self) -> bool:
        """Whether outliers are apart."""
        return self.method in ("dasq", "dasq-gptq")

    @property
    def fitted(self) -> bool:
        """Whether rounding looks at calibration inputs."""
        return self.method in FITTED


class LayerRule(PassOptions):
    """What differs for some layers; None: as for all others."""

    match: str = Field(min_length=1, max_length=200, description="glob of PART/NAME")
    bits: int | None = Field(None, ge=2, le=8)
    block: int | None = Field(None, ge=0, le=4096)
    method: Method | None = None
    form: Literal["fold", "branches", "ell"] | None = None
    outliers: float | None = Field(None, ge=0, le=0.5)
    outlier_bits: int | None = Field(None, ge=2, le=8)
    joint: bool | None = None

    def changed(self, scheme: Scheme) -> Scheme:
        """Raises ValueError where both together make no sense."""
        mine = self.model_dump(exclude={"match"}, exclude_none=True)
        return Scheme(**(scheme.model_dump() | mine))
