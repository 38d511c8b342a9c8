"""Engines that were built, kept in a folder beside the bundle under what they depend on.

    cat.edgevlm.engines/vision-5f0c21d97be3a884.engine     and .json: what it was built of

An engine runs with the very TensorRT that built it, on the kind of GPU that it was built on, and is
worth nothing for another artifact. The name is a digest of all of these, so an engine that does not
match is never found; the file beside it lets us say why.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevlm.compiler.errors import JobFault

__all__ = ["EngineKey", "EngineStore", "Kept"]

MAX_RECORD = 64 * 2**20


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on."""

    role: str
    library: str
    version: str
    sm: int  # compute capability x 10
    digest: str  # of the artifact
    workspace: int | None  # bytes the builder was given

    @property
    def name(self) -> str:
        told = json.dumps(asdict(self), sort_keys=True)
        return f"{self.role}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def unlike(self, other: dict[str, Any]) -> str:
        """In what an engine of that record is another one, in words."""
        if (other.get("library"), other.get("version")) != (self.library, self.version):
            built = f"{other.get('library')} {other.get('version')}"
            return f"it was built by {built}, this is {self.library} {self.version}"
        if other.get("sm") != self.sm:
            return f"it was built on SM{other.get('sm')}, this is SM{self.sm}"
        if other.get("digest") != self.digest:
            return "it was built from another artifact"
        return "it was built with another workspace"


@dataclass
class Kept:
    """An engine found: its bytes, and what was told when it was built."""

    path: Path
    plan: bytes
    record: dict[str, Any]


class EngineStore:
    """The folder. Nothing is removed from it but by `prune`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: set[str] = set()

    def timing_cache(self, library: str, version: str, sm: int) -> Path:
        """Times of kernels hold for one TensorRT on one kind of GPU."""
        return self.folder / f"timing-{library}-{version}-sm{sm}.cache"

    def find(self, key: EngineKey) -> Kept | str:
        """The engine, or why there is none."""
        self.used.add(key.name)
        path = self.folder / f"{key.name}.engine"
        record = _record(path.with_suffix(".json"))
        if record is not None and path.is_file():
            plan = path.read_bytes()
            if hashlib.sha256(plan).hexdigest() == record.get("sha256"):
                return Kept(path, plan, record)
            return f"{path.name} is damaged"
        others = (_record(other) for other in sorted(self.folder.glob(f"{key.role}-*.json")))
        told = [key.unlike(other) for other in others if other]
        return told[-1] if told else "there is none yet"

    def keep(self, key: EngineKey, plan: Any, record: dict[str, Any]) -> Path:
        """Write both files, the engine first. Raises EV354 where the disk does not take them."""
        self.used.add(key.name)
        path = self.folder / f"{key.name}.engine"
        data = memoryview(plan)
        told = {**asdict(key), "sha256": hashlib.sha256(data).hexdigest(), **record}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, data)
            _write(path.with_suffix(".json"), memoryview(json.dumps(told, indent=1).encode()))
        except OSError as error:
            raise JobFault(
                "EV354",
                f"the engine of part {key.role} cannot be written to {self.folder}",
                f"{error.strerror or error} ({data.nbytes} bytes)",
                "free some space, or --engines FOLDER on another disk",
            ) from error
        return path

    def prune(self) -> list[str]:
        """Remove what no part of this bundle uses here and now, halves of killed builds too."""
        removed = []
        for path in sorted(self.folder.glob("*")):
            ours = path.suffix in (".engine", ".json", ".part")
            if ours and path.is_file() and path.stem not in self.used:
                path.unlink()
                removed.append(path.name)
        return removed


def _record(path: Path) -> dict[str, Any] | None:
    """None for what is missing or broken: the engine is built again then."""
    try:
        if path.stat().st_size > MAX_RECORD:
            return None
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _write(path: Path, data: memoryview) -> None:
    """Whole or not at all: a process may be killed, a disk may fill."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        if part.exists():
            part.unlink()
        raise
