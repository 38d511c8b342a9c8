"""Numbers in files of the kernel's hwmon tree (https://docs.kernel.org/hwmon/sysfs-interface.html)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

__all__ = ["chips", "number", "refusal", "text"]

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


def refusal(read: Callable[[], Mapping[str, float]], absent: str) -> str | None:
    """Why a sensor cannot be used, for `available`; `absent` where it has no rail."""
    try:
        return None if read() else absent
    except PermissionError as error:
        return f"{error.filename or 'its file'} may not be read by this user"
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error if isinstance(error, ValueError) else error.strerror})"
