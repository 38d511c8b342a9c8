"""What a device without Python is, by its shell: the same facts as `describe_host` has of this one.

Android says by `getprop` what its chip is called, and its version: /etc/os-release is not there.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from edgevlm.devices.connect.mirror import Mirror
from edgevlm.devices.connect.session import Device
from edgevlm.devices.host import Host, describe_host

__all__ = ["look"]

PROPERTIES = ("ro.soc.manufacturer", "ro.soc.model", "ro.build.version.release")
LINE = f"""echo "cores=$(nproc 2>/dev/null)"
for each in {" ".join(PROPERTIES)}; do echo "$each=$(getprop $each 2>/dev/null)"; done; true"""
MOST = 100  # characters of a name


def look(device: Device, mirror: Mirror) -> Host:
    """mirror: of `LOOKED_AT`, fresh. Raises as `Device.ask`."""
    told: dict[str, str] = {}
    for line in device.ask(LINE).text.splitlines():
        name, equals, value = line.partition("=")
        if equals and value.strip():
            told[name] = value.strip()[:MOST]
    seen = describe_host(mirror.root)
    chip = " ".join(told[name] for name in PROPERTIES[:2] if name in told)
    version = told.get(PROPERTIES[2])
    named = (mirror.root / "etc/os-release").is_file()
    return dataclasses.replace(
        seen,
        cpu_model=chip or seen.cpu_model,
        architecture=device.facts.architecture,
        cores=int(told["cores"]) if told.get("cores", "").isdigit() else 0,
        os=f"Android {version}" if version else seen.os if named else "not said",
        kernel=device.facts.system,
        python="",
        load_average=_load(mirror),
    )


def _load(mirror: Mirror) -> tuple[float, float, float] | None:
    """0.52 0.58 0.59 1/613 12345"""
    path = mirror.root / "proc/loadavg"
    text: Any = path.read_text() if path.is_file() else ""
    found = re.match(r"(\d+\.\d+) (\d+\.\d+) (\d+\.\d+) ", text)
    return None if found is None else tuple(float(each) for each in found.groups())
