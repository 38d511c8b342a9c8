"""What a device file may say: every number carries its source and how sure we are of it.

A device is data (`devices/data/<id>.toml`), never code. The file is read as hostile input: an
unknown key, a missing source or a unit that does not fit is EV401 with the file and the field. A
number that nobody published is left out, so absence reads as "unknown" and never as zero. What
somebody claims (`memory`, `units`, `power_modes`) and what we measured (`measured`) never mix.
"""

from __future__ import annotations

import datetime
import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.claims import Published, Trap
from edgevlm.devices.facts import (
    Channels,
    Count,
    Dtype,
    Fact,
    Gigabytes,
    GigabytesPerSecond,
    Kebab,
    Key,
    Kibibytes,
    Megahertz,
    Microseconds,
    Number,
    Sdk,
    Source,
    Sourced,
    Specifiers,
    Strict,
    TeraOpsPerSecond,
    Text,
    Watts,
)

__all__ = [
    "Device",
    "DtypeRate",
    "Fabric",
    "Fact",
    "Measured",
    "Memory",
    "PowerMode",
    "Published",
    "Rail",
    "Trap",
    "Unit",
    "parse_device",
]


class Memory(Strict):
    """What a model must fit in and how fast it is read."""

    dram: Gigabytes | None = None
    bandwidth: GigabytesPerSecond | None = None
    sram: Kibibytes | None = None
    system: Gigabytes | None = None  # of dram, that its system keeps to itself
    scratch: Gigabytes | None = None  # that its runtime takes beside the model


class Matrices(Strict):
    """What products run well at: passes that make them narrower round widths to `multiple`."""

    multiple: Channels | None = None

    @property
    def channels(self) -> int | None:
        return None if self.multiple is None else int(self.multiple.value)


class DtypeRate(Strict):
    """Peak rate of one dtype in 1e12 operations a second; a multiply-add counts as two."""

    dense: TeraOpsPerSecond | None = None
    sparse: TeraOpsPerSecond | None = None  # 2:4 structured sparsity, the figure brochures print

    @model_validator(mode="after")
    def _dense_is_the_smaller(self) -> DtypeRate:
        if self.dense and self.sparse and self.dense.value > self.sparse.value:
            raise ValueError("the dense rate is above the sparse one; are the two swapped?")
        return self


class Unit(Sourced):
    """Something that computes. Of a dtype that it takes and whose rate nobody published the entry
    is empty; one that it does not take has no entry."""

    name: Text
    kind: Literal["cpu", "gpu", "npu", "dla", "aie", "fabric"]
    dtypes: dict[Dtype, DtypeRate] = {}
    compute_capability: Fact | None = None  # of an NVIDIA GPU: 8.7
    clock: Megahertz | None = None  # that the rates are for
    sram: Kibibytes | None = None  # of its own: L2, VTCM, buffers
    launch: Microseconds | None = None  # from one kernel to the next, with nothing to compute


class Fabric(Strict):
    """What there is of an FPGA to build with."""

    lut: Count
    ff: Count
    bram36: Count  # blocks of 36 kbit
    uram: Count | None = None  # blocks of 288 kbit; None: it has none
    dsp: Count


class PowerMode(Strict):
    """A mode by the name the vendor's tool prints, with its cap and how it is set."""

    name: Text
    watts: Watts | None = None
    command: Text | None = None  # run on the device


class Rail(Sourced):
    """A supply rail a meter can read. `total` rails hold the whole board: never add the others."""

    name: Text
    covers: Text
    total: bool = False


class Measured(Strict):
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


#: that vary from machine to machine where the device is the one the command runs on
_CLAIMS = (
    *("memory", "units", "fabric", "matrices", "power_modes", "rails", "published", "measured"),
)


class Device(Strict):
    """One device file. `host = true` is the machine the command runs on: its facts are read at
    run time by `devices/host.py`, so the file may claim none."""

    id: Kebab
    name: Text
    aliases: tuple[Kebab, ...] = ()
    family: Kebab
    runtime: Literal[
        "ort", "openvino", "tensorrt", "coreml", "coreai", "executorch", "ethos", "fpga"
    ]
    architecture: Literal["x86_64", "aarch64", "armv7l"] | None = None  # of its Linux: `uname -m`
    host: bool = False
    sources: dict[Kebab, Source] = {}  # what facts cite by a short name
    # Distribution or SDK name -> the versions known to work, as pip writes a range.
    toolchain: dict[Kebab, Specifiers] = {}
    sdk: Sdk | None = None  # what its owner most likely has; `--toolchain` names another
    memory: Memory = Memory()
    units: tuple[Unit, ...] = ()  # the first one is what models are lowered to
    fabric: Fabric | None = None
    matrices: Matrices = Matrices()
    power_modes: tuple[PowerMode, ...] = ()
    rails: tuple[Rail, ...] = ()
    traps: dict[Key, Trap] = {}
    measured: tuple[Measured, ...] = ()
    published: tuple[Published, ...] = ()  # by others, of models that are known

    @model_validator(mode="after")
    def _consistent(self) -> Device:
        names = [self.id, *self.aliases]
        if len(set(names)) < len(names):
            raise ValueError("an alias is given twice, or repeats the id")
        for field in ("units", "power_modes", "rails"):
            given = [each.name for each in getattr(self, field)]
            if len(set(given)) < len(given):
                raise ValueError(f"{field}: a name is given twice")
        claims = [
            key for key in _CLAIMS if getattr(self, key) != type(self).model_fields[key].default
        ]
        if self.host and claims:
            raise ValueError(f"host = true, so {', '.join(claims)} must go: it varies by machine")
        return self


def parse_device(text: str, file: str) -> Device:
    """Read one device file's text. `file` is the bare file name and must be `<id>.toml`.

    Raises JobFault EV401 naming the file and the first field at fault.
    """

    import tomllib  # novm: 3.11; on a device with less, nothing reads device files

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
        read = tomllib.loads(text)
        unused = _cite(read)
        raw = json.dumps(read, default=_date)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise fault("the file as a whole", f"it is not TOML that we read: {error}") from None
    try:
        device = Device.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"field {field}" if field else "the file as a whole"
        raise fault(where, re.sub(r"^Value error, ", "", first["msg"])) from None
    if unused:
        raise fault(f"field sources.{min(unused)}", "nothing cites it")
    if file != f"{device.id}.toml":
        raise fault("field id", f"the id is {device.id}, so the file should be {device.id}.toml")
    return device


def _cite(read: dict[str, Any]) -> set[str]:
    """Put sources in the place of their names; returns those that nothing cites."""
    named = read.get("sources", {})
    unused = set(named) if isinstance(named, dict) else set()
    waiting: list[Any] = [read]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            name = each.get("source")
            if isinstance(name, str) and isinstance(named, dict) and name in named:
                each["source"] = named[name]
                unused.discard(name)
        if isinstance(each, dict | list):
            waiting.extend(each.values() if isinstance(each, dict) else each)
    return unused


def _date(value: Any) -> str:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    raise ValueError(f"a {type(value).__name__} has no place in a device file")
