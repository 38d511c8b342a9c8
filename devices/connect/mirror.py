"""Small files of a device's kernel, brought here as a tree: what reads this machine reads that one.

    with mirrored(device, LOOKED_AT) as tree:
        tree.refresh()                               one line of its shell
        describe_state(tree.root); temperatures(tree.root)

For devices without Python. What comes back is a stranger's: names that were not asked for, or that
lead out of the tree, are passed over.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgevlm.devices.connect.session import Device

__all__ = ["BATTERY", "LOOKED_AT", "Mirror", "mirrored"]

#: patterns of a shell, of files that say what a machine is and how it is now
LOOKED_AT = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/loadavg", "/etc/os-release",
    "/sys/firmware/devicetree/base/model",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq",
    "/sys/class/devfreq/*/cur_freq",
    "/sys/class/thermal/thermal_zone*/type", "/sys/class/thermal/thermal_zone*/temp",
    "/sys/class/thermal/cooling_device*/type", "/sys/class/thermal/cooling_device*/cur_state",
)  # fmt: skip
BATTERY = tuple(
    f"/sys/class/power_supply/*/{name}" for name in ("current_now", "voltage_now", "status")
)
MOST_FILES, MOST_BYTES = 4096, 65536  # of all, and of one
NAME = re.compile(r"(/[A-Za-z0-9_.:,@-]+)+")
#: many kernels' files can be opened and not read
LINE = """for each in {patterns}; do
if [ -r "$each" ] && [ -f "$each" ]; then
echo {mark} "$each"; head -c {most} "$each" 2>/dev/null; echo; fi
done; true"""


class Mirror:
    """root: of the tree, a folder of this machine."""

    def __init__(self, device: Device, patterns: Sequence[str], root: Path) -> None:
        self.device, self.patterns, self.root = device, tuple(patterns), root

    def refresh(self) -> None:
        """All of it anew. Raises as `Device.ask`."""
        mark = f"file-{secrets.token_hex(8)}"
        line = LINE.format(patterns=" ".join(self.patterns), mark=mark, most=MOST_BYTES)
        said = self.device.ask(line).out.decode("utf-8", "replace")
        for child in self.root.iterdir():
            shutil.rmtree(child)
        for piece in said.split(f"{mark} ")[1 : MOST_FILES + 1]:
            name, _, text = piece.partition("\n")
            if self._asked_for(name):
                path = self.root / name.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.removesuffix("\n"), encoding="utf-8")

    def _asked_for(self, name: str) -> bool:
        plain = NAME.fullmatch(name) and not {".", ".."} & set(name.split("/"))
        return bool(plain) and any(Path(name).match(pattern) for pattern in self.patterns)


@contextlib.contextmanager
def mirrored(device: Device, patterns: Sequence[str] = LOOKED_AT) -> Iterator[Mirror]:
    """Empty until it is refreshed; gone with the block."""
    with tempfile.TemporaryDirectory(prefix="edgevlm-mirror-") as folder:
        yield Mirror(device, patterns, Path(folder))
