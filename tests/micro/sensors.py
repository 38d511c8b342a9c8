"""Trees of files as the kernel shows them. All values here are synthetic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def hwmon(root: Path, *sensors: Mapping[str, object]) -> Path:
    """/sys/class/hwmon/hwmonN for each."""
    for i, files in enumerate(sensors):
        _write(root / f"sys/class/hwmon/hwmon{i}", files)
    return root


def ina3221(
    root: Path, *chips: Mapping[str, tuple[int, int]], interval_ms: int | None = None
) -> Path:
    """rail -> (mV, mA) of each chip, with the shunt voltages that look like rails."""
    for i, rails in enumerate(chips):
        folder = root / f"sys/bus/i2c/drivers/ina3221/1-004{i}/hwmon/hwmon{3 + i}"
        files: dict[str, object] = {"name": "ina3221", "in7_label": "sum of shunt voltages"}
        for n, (rail, (mv, ma)) in enumerate(rails.items(), 1):
            files |= {f"in{n}_label": rail, f"in{n}_input": mv, f"curr{n}_input": ma}
            files |= {f"in{n + 3}_input": 99999, f"curr{n}_crit": 32760}
        _write(folder, files | ({"update_interval": interval_ms} if interval_ms else {}))
    return root


def _write(folder: Path, files: Mapping[str, object]) -> None:
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
