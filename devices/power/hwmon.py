"""Sensors that are files of the kernel (https://docs.kernel.org/hwmon/sysfs-interface.html)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from edgevlm.devices.power.base import Absent

__all__ = ["Tree", "chips", "number", "text"]

HWMON = Path("sys/class/hwmon")


def chips(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder) of every sensor; numbers of folders change from boot to boot, names do not."""
    for folder in sorted((root / HWMON).glob("hwmon*")):
        if (folder / "name").is_file():
            yield text(folder / "name"), folder


def text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def number(path: Path) -> int:
    return int(text(path))


class Tree(ABC):
    """A sensor whose rails are files under `root`; each kind says what it is and how it is read."""

    absent: ClassVar[str]  # why it cannot be used where no rail is found
    period: ClassVar[float]  # seconds

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def available(self) -> str | None:
        try:
            return None if self.read() else Absent(self.absent)
        except PermissionError as error:
            return f"{error.filename or 'its file'} may not be read by this user"
        except (OSError, ValueError) as error:
            why = error if isinstance(error, ValueError) else error.strerror
            return f"it cannot be read ({why})"

    def period_s(self) -> float:
        return self.period

    def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Files are opened for each reading."""

    @abstractmethod
    def read(self) -> Mapping[str, float]:
        """Watts by rail, now; none where the machine has no such sensor."""
