"""What a device file may say: every number carries its source and how sure we are of it.

A device is data (`devices/data/<id>.toml`), never code. The file is read as hostile input: an
unknown key, a missing source or a unit that does not fit is EV401 with the file and the field. A
number that nobody published is left out, so absence reads as "unknown" and never as zero. What
somebody claims (`memory`, `dtypes`, `power_modes`) and what we measured (`measured`) never mix.
"""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from edgevlm.compiler.errors import JobFault

__all__ = [
    "THIS_MACHINE",
    "Device",
    "DtypeRate",
    "Fact",
    "Measured",
    "Memory",
    "PowerMode",
    "Rail",
    "Trap",
    "parse_device",
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
Specifiers = Annotated[
    str, StringConstraints(pattern=r"^(==|!=|>=|<=|>|<|~=)[^\s,]+(,(==|!=|>=|<=|>|<|~=)[^\s,]+)*$")
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Sourced(_Strict):
    source: Source
    confidence: Confidence


class Fact(_Sourced):
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
Watts = Annotated[Fact, _in("W")]


def _whole(fact: Fact) -> Fact:
    if not (fact.value.is_integer() and fact.value <= 256):
        raise ValueError("a whole number, 256 at most")
    return fact


Channels = Annotated[Fact, _in("channels"), AfterValidator(_whole)]


class Memory(_Strict):
    """What a model must fit in and how fast it is read."""

    dram: Gigabytes | None = None
    bandwidth: GigabytesPerSecond | None = None
    sram: Kibibytes | None = None


class Matrices(_Strict):
    """What products run well at: passes that make them narrower round widths to `multiple`."""

    multiple: Channels | None = None

    @property
    def channels(self) -> int | None:
        return None if self.multiple is None else int(self.multiple.value)


class DtypeRate(_Strict):
    """Peak rate of one dtype in 1e12 operations a second; a multiply-add counts as two."""

    dense: TeraOpsPerSecond | None = None
    sparse: TeraOpsPerSecond | None = None  # 2:4 structured sparsity, the figure brochures print

    @model_validator(mode="after")
    def _dense_is_the_smaller(self) -> Self:
        if self.dense and self.sparse and self.dense.value > self.sparse.value:
            raise ValueError("the dense rate is above the sparse one; are the two swapped?")
        return self


class PowerMode(_Strict):
    """A mode by the name the vendor's tool prints, with its cap and how it is set."""

    name: Text
    watts: Watts | None = None
    command: Text | None = None  # run on the device


class Rail(_Sourced):
    """A supply rail a meter can read. `total` rails hold the whole board: never add the others."""

    name: Text
    covers: Text
    total: bool = False


class Trap(_Sourced):
    """Something that bites on this device; `value` and `unit` when it is a limit."""

    text: Text
    value: Number | None = None
    unit: Text | None = None


class Measured(_Strict):
    """One figure we measured, with what is needed to measure it again."""

    what: Text
    value: Number
    unit: Text
    how: Literal["measured-device", "measured-host"]
    method: Text
    n: Annotated[int, Field(ge=1)]
    date: datetime.date
    tools: dict[Kebab, Text]
    power_mode: Text | None = None


class Device(_Strict):
    """One device file. `host = true` is the machine the command runs on: its facts are read at
    run time by `devices/host.py`, so the file may claim none."""

    id: Kebab
    name: Text
    aliases: tuple[Kebab, ...] = ()
    family: Kebab
    runtime: Literal["ort", "openvino", "tensorrt", "coreml", "coreai", "executorch", "fpga"]
    host: bool = False
    # Distribution or SDK name -> the versions known to work, as pip writes a range.
    toolchain: dict[Kebab, Specifiers] = {}
    memory: Memory = Memory()
    dtypes: dict[Dtype, DtypeRate] = {}
    matrices: Matrices = Matrices()
    power_modes: tuple[PowerMode, ...] = ()
    rails: tuple[Rail, ...] = ()
    traps: dict[Key, Trap] = {}
    measured: tuple[Measured, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [self.id, *self.aliases]
        if len(set(names)) < len(names):
            raise ValueError("an alias is given twice, or repeats the id")
        modes = [mode.name for mode in self.power_modes]
        if len(set(modes)) < len(modes):
            raise ValueError("power_modes: a name is given twice")
        claims = [
            key
            for key in ("memory", "dtypes", "matrices", "power_modes", "rails", "measured")
            if getattr(self, key) != type(self).model_fields[key].default
        ]
        if self.host and claims:
            raise ValueError(f"host = true, so {', '.join(claims)} must go: it varies by machine")
        return self


def parse_device(text: str, file: str) -> Device:
    """Read one device file's text. `file` is the bare file name and must be `<id>.toml`.

    Raises JobFault EV401 naming the file and the first field at fault.
    """

    def fault(where: str, why: str) -> JobFault:
        return JobFault(
            "EV401",
            f"device file {file}, {where}",
            why,
            f"correct {file}, then run `edgevlm devices list`",
        )

    try:
        # Through JSON, because strict mode takes a JSON list for a tuple and a JSON string for a
        # date, and nothing else that it should not.
        raw = json.dumps(tomllib.loads(text), default=_date)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise fault("the file as a whole", f"it is not TOML that we read: {error}") from None
    try:
        device = Device.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"field {field}" if field else "the file as a whole"
        raise fault(where, re.sub(r"^Value error, ", "", first["msg"])) from None
    if file != f"{device.id}.toml":
        raise fault("field id", f"the id is {device.id}, so the file should be {device.id}.toml")
    return device


def _date(value: Any) -> str:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    raise ValueError(f"a {type(value).__name__} has no place in a device file")
