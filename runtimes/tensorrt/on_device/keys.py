"""Engines that were built, kept in a folder beside the bundle under what they depend on.

    cat.edgevlm.engines/vision-5f0c21d97be3a884.engine     and .json: what it was built of

An engine runs with the very TensorRT that built it, on the kind of GPU that it was built on, and is
worth nothing for another artifact. The name is a digest of all of these, so an engine that does not
match is never found; the file beside it lets us say why.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Collection

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.digests import file_digest
from edgevlm.runtimes.tensorrt.on_device.plan import ROLES
from edgevlm.runtimes.tensorrt.on_device.records import Record, read_record

__all__ = ["EngineKey", "EngineStore", "Kept"]

#: names of files that are written here, whole or half; anything else in the folder is somebody's
ENGINE = re.compile(rf"((?:{'|'.join(ROLES)})-[0-9a-f]{{16}})\.(?:engine|json)(\.part)?")
TIMES = re.compile(r"timing(?:-[\w.+-]+-sm\d+)?\.cache(?:\.part)?")


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on."""

    role: str
    library: str
    version: str
    sm: int  # compute capability x 10
    digest: str  # of the artifact
    workspace: int | None  # bytes the builder was given
    options: str  # of the builder, see build.py

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
        if other.get("options") != self.options:
            return "it was built with other options"
        return "it was built with another workspace"


@dataclass
class Kept:
    """An engine found, not read yet, and what was told when it was built."""

    path: Path
    record: Record


class EngineStore:
    """The folder. Nothing is removed from it but by `prune`.

    bundle: whose engines these are; a folder that a user names may hold those of others, too.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle = folder, str(bundle.resolve())
        self.used: set[str] = set()

    def timing_cache(self, library: str, version: str, sm: int) -> Path:
        """Times of kernels hold for one TensorRT on one kind of GPU."""
        return self.folder / f"timing-{library}-{version}-sm{sm}.cache"

    def find(self, key: EngineKey) -> Kept | str:
        """The engine, or why there is none."""
        self.used.add(key.name)
        path = self.folder / f"{key.name}.engine"
        record = read_record(path.with_suffix(".json"))
        if record is not None and path.is_file():
            if file_digest(path) == record.get("sha256"):
                return Kept(path, record)
            return f"{path.name} is damaged"
        others = (read_record(other) for other in sorted(self.folder.glob(f"{key.role}-*.json")))
        told = [key.unlike(other) for other in others if other]
        return told[-1] if told else "there is none yet"

    def make_folder(self) -> None:
        """Raises EV354 where there can be none."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritten("the folder of the engines cannot be made", error) from error

    def keep(self, key: EngineKey, plan: Any, record: Record) -> Path:
        """Write both files, the engine first. Raises EV354 where they do not fit."""
        self.used.add(key.name)
        path = self.folder / f"{key.name}.engine"
        data = memoryview(plan)
        about = {**asdict(key), "bundle": self.bundle, "sha256": hashlib.sha256(data).hexdigest()}
        self.make_folder()
        try:
            _write(path, data)
            told = json.dumps({**about, **record}, indent=1)
            _write(path.with_suffix(".json"), memoryview(told.encode()))
        except OSError as error:
            what = f"the engine of part {key.role} ({data.nbytes} bytes) cannot be written"
            raise self._unwritten(what, error) from error
        return path

    def prune(self, digests: Collection[str]) -> list[str]:
        """Remove what no part of this bundle uses here and now, halves of killed builds too.

        digests: of its artifacts; they tell its engines wherever it lay when these were built.
        """
        stale = [p for p in sorted(self.folder.glob("*")) if self._is_stale(p, digests)]
        for path in stale:
            path.unlink()
        return [path.name for path in stale]

    def _is_stale(self, path: Path, digests: Collection[str]) -> bool:
        found = ENGINE.fullmatch(path.name)
        if not path.is_file() or not found:
            return path.name not in self.used and TIMES.fullmatch(path.name) is not None
        if found[1] in self.used:
            return found[2] is not None  # a half, of a build that was done again
        told = read_record(self.folder / f"{found[1]}.json")
        return told is None or told.get("bundle") == self.bundle or told.get("digest") in digests

    def _unwritten(self, what: str, error: OSError) -> JobFault:
        return JobFault(
            "EV354",
            what,
            f"{self.folder}: {error.strerror or error}",
            "free some space, or --engines FOLDER in a place that can be written to",
        )


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
