"""What artifacts are written for: a chip, a TensorRT, and the JetPack that brings it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevlm.compiler.errors import UsageFault
from edgevlm.devices import Device
from edgevlm.runtimes.tensorrt.facts import Chip, facts, parsed

__all__ = ["NEWEST", "Aim", "aim_at"]

#: of a TensorRT that nobody named, on a device whose file names none either
NEWEST = facts().releases[-1].version
SDK = re.compile(r"(jetpack|tensorrt)-([0-9]{1,4}(?:\.[0-9]{1,4}){0,3})")


@dataclass(frozen=True)
class Aim:
    """`tensorrt` as it was asked for; what holds for it is the release at or below."""

    tensorrt: str
    chip: Chip | None = None  # None: any, nothing of it is checked
    jetpack: str | None = None
    dram_bytes: int | None = None

    @property
    def opset(self) -> int:
        return facts().release(self.tensorrt)[0].opset

    @property
    def lacks(self) -> frozenset[str]:
        """Ops that its parser does not know; Attention is never left (facts.toml says why)."""
        return facts().release(self.tensorrt)[1] | {"Attention"}

    def as_json(self) -> dict[str, str]:
        """For the manifest."""
        named = {"tensorrt": self.tensorrt, "jetpack": self.jetpack}
        named["sm"] = str(self.chip.sm) if self.chip else None
        return {name: value for name, value in named.items() if value is not None}


def aim_at(device: Device, toolchain: str | None) -> Aim:
    """toolchain: `jetpack-6.2`, `tensorrt-10.13`, or what the device file names.

    Raises UsageFault EV308 for another word, one too old, or a JetPack that is not for this chip.
    """
    asked = toolchain or device.sdk or f"tensorrt-{NEWEST}"
    found = SDK.fullmatch(asked.strip().lower())
    if found is None:
        raise _refused(f"toolchain {asked[:60]!r}", "it is jetpack-VERSION or tensorrt-VERSION")
    kind, version = found.groups()
    chip, jetpack = _chip(device), None
    if kind == "jetpack":
        brought = facts().jetpack(version)
        if brought is None or (chip and chip.sm not in brought.sms):
            known = [j.version for j in facts().jetpacks if chip is None or chip.sm in j.sms]
            known = [v for v in known if facts().release(facts().jetpack(v).tensorrt)]
            name = f"{chip.name} (sm_{chip.sm})" if chip else device.name
            why = f"known for it: {', '.join(known)}" if known else "no JetPack is for this chip"
            raise _refused(f"JetPack {version} on {name}", why)
        jetpack, version = version, brought.tensorrt
    if facts().release(version) is None:
        what = f"TensorRT {version}" + (f", of JetPack {jetpack}" if jetpack else "")
        oldest = facts().releases[0].version
        raise _refused(what, f"strongly typed networks with int4 weights need {oldest} or later")
    dram = device.memory.dram
    return Aim(version, chip, jetpack, int(dram.value * 1e9) if dram else None)


def _chip(device: Device) -> Chip | None:
    told = device.units[0].compute_capability if device.units else None
    return facts().chip(round(told.value * 10)) if told else None


def _refused(what: str, why: str) -> UsageFault:
    newest = max((r.version for r in facts().releases), key=parsed)
    return UsageFault(
        "EV308", what, why, f"--toolchain jetpack-6.2, or --toolchain tensorrt-{newest}"
    )
