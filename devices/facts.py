"""One number of a device file: its value, its unit, its source and how sure we are of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "THIS_MACHINE",
    "Channels",
    "Count",
    "Dtype",
    "Fact",
    "Gigabytes",
    "GigabytesPerSecond",
    "Kebab",
    "Key",
    "Kibibytes",
    "Megahertz",
    "Microseconds",
    "Number",
    "Sdk",
    "Source",
    "Sourced",
    "Specifiers",
    "Strict",
    "TeraOpsPerSecond",
    "Text",
    "Watts",
]

THIS_MACHINE = "this machine"

Kebab = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=600)]
Source = Annotated[str, StringConstraints(pattern=rf"^(https?://[^\s/]+\S*|{THIS_MACHINE})$")]
# A: read in a primary source.  B: a secondary page, or derived from A.  C: unverified; must be
# flagged wherever it is printed.
Confidence = Literal["A", "B", "C"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Dtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "nvfp4", "int16", "int8", "int4"]
#: a toolchain by name and version: jetpack-6.2, tensorrt-10.13
Sdk = Annotated[str, StringConstraints(pattern=r"^[a-z]+-\d+(\.\d+)*$", max_length=40)]
Specifiers = Annotated[
    str, StringConstraints(pattern=r"^(==|!=|>=|<=|>|<|~=)[^\s,]+(,(==|!=|>=|<=|>|<|~=)[^\s,]+)*$")
]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sourced(Strict):
    source: Source
    confidence: Confidence


class Fact(Sourced):
    """One number somebody stands for. `unit` is filled in where the field fixes it."""

    value: Number
    unit: Text | None = None
    note: Text | None = None


def _in(unit: str) -> AfterValidator:
    """A positive fact whose unit the field decides; another unit in the file is refused."""

    def fits(fact: Fact) -> Fact:
        if fact.unit not in (None, unit):
            raise ValueError(f"the unit here is {unit}, not {fact.unit}")
        if fact.value <= 0:
            raise ValueError("must be above zero; leave the field out when it is not published")
        return fact.model_copy(update={"unit": unit})

    return AfterValidator(fits)


Gigabytes = Annotated[Fact, _in("GB")]
GigabytesPerSecond = Annotated[Fact, _in("GB/s")]
Kibibytes = Annotated[Fact, _in("KiB")]
TeraOpsPerSecond = Annotated[Fact, _in("Top/s")]
Megahertz = Annotated[Fact, _in("MHz")]
Microseconds = Annotated[Fact, _in("us")]
Watts = Annotated[Fact, _in("W")]


def _whole(most: int) -> AfterValidator:
    def whole(fact: Fact) -> Fact:
        if not (fact.value.is_integer() and fact.value <= most):
            raise ValueError(f"a whole number, {most} at most")
        return fact

    return AfterValidator(whole)


Channels = Annotated[Fact, _in("channels"), _whole(256)]
Count = Annotated[Fact, _whole(10**9)]
