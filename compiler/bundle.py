"""The bundle: the folder that ships. Written whole or not at all, checked before it is used.

manifest.json   what it is (deterministic)       recipe.toml   how to make it again
record.json     how making it went               SHA256SUMS    sha256 of every other file
<runtime>/      artifacts                        processor/    tokenizer
goldens/        images with known answers

A bundle may come from a stranger. Opening one reads JSON of a bounded size against a strict schema,
and lets no name lead out of the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import SCHEMA, FileEntry, Manifest

__all__ = [
    "MANIFEST",
    "RECORD",
    "SUMS",
    "Bundle",
    "check_bundle",
    "digest",
    "file_entries",
    "open_bundle",
    "read_manifest",
    "write_sums",
]

MANIFEST, RECORD, SUMS = "manifest.json", "record.json", "SHA256SUMS"
MAX_JSON_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def bytes(self) -> int:
        """Size on disk of everything the manifest lists."""
        return sum(entry.bytes for entry in self.manifest.files.values())

    @property
    def digest(self) -> str:
        """sha256 of the manifest, which holds that of all artifacts: it names the whole bundle."""
        return f"sha256:{digest(self.folder / MANIFEST)}"

    def record(self) -> dict[str, Any]:
        """record.json; {} where it is missing. Raises EV322 where it is no JSON object."""
        path = self.folder / RECORD
        return _read_json(path) if path.is_file() else {}


def digest(path: Path) -> str:
    """sha256 of a file, hex. On devices with Python 3.10, too."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while some := file.read(2**20):
            total.update(some)
    return total.hexdigest()


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """Size and digest of every file below `folder`, in name order."""
    return {
        str(p.relative_to(folder)): FileEntry(bytes=p.stat().st_size, sha256=digest(p))
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def write_sums(folder: Path) -> None:
    """SHA256SUMS over every file there is."""
    rows = [f"{entry.sha256}  {name}" for name, entry in file_entries(folder).items()]
    (folder / SUMS).write_text("\n".join(rows) + "\n")


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest and see that its files are there. Digests are `check_bundle`'s work.

    Raises EV320 (not a bundle), EV321 (a newer schema), EV322 (broken manifest), EV330 (a file is
    missing, a link or of another size).
    """
    bundle = Bundle(folder, read_manifest(folder))
    problems = [p for name, e in bundle.manifest.files.items() if (p := _misfit(folder, name, e))]
    if problems:
        raise JobFault(
            "EV330",
            f"bundle {folder.name} is not what was compiled",
            "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if problems[3:] else ""),
            f"copy or compile it again (edgevlm verify {shlex.quote(str(folder))} checks it all)",
        )
    return bundle


def _misfit(folder: Path, name: str, entry: FileEntry) -> str | None:
    path = folder / name
    try:
        found = path.lstat()
    except OSError:
        return f"{name}: missing"
    if not stat.S_ISREG(found.st_mode) or path.resolve() != folder.resolve() / name:
        return f"{name}: is not a regular file"
    if found.st_size != entry.bytes:
        return f"{name}: has {found.st_size} bytes, {entry.bytes} were written"
    return None


def read_manifest(folder: Path) -> Manifest:
    """manifest.json alone, checked against the schema. Raises EV320, EV321, EV322."""
    path = folder / MANIFEST
    if not os.path.isfile(path):  # noqa: PTH113  (Path's raises for a name that is too long)
        known = os.path.exists(folder)  # noqa: PTH110
        raise JobFault(
            "EV320",
            f"{str(folder)[:200]} is not a bundle",
            f"it has no {MANIFEST}" if known else "there is no such folder",
            "make one: edgevlm compile easyvqa-tiny --target cpu -o b.edgevlm",
        )
    data = _read_json(path)
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise JobFault(
            "EV321",
            f"bundle {folder.name} has schema {schema}",
            f"this edgevlm reads up to schema {SCHEMA}",
            "pip install --upgrade edgevlm",
        )
    try:
        return Manifest.model_validate_json(json.dumps(data))
    except (ValidationError, ValueError, RecursionError) as error:
        raise _broken(path, _first(error)) from error


def check_bundle(folder: Path) -> list[str]:
    """Every difference between the files and what SHA256SUMS and the manifest say; [] if none.

    Raises EV320, EV321, EV322 for a manifest that its own checksum vouches for but that is none.
    """
    sums = folder / SUMS
    if sums.is_symlink() or not sums.is_file() or sums.stat().st_size > MAX_JSON_BYTES:
        return [f"{SUMS}: missing, a link or too large"]
    listed, problems = {}, []
    for number, line in enumerate(sums.read_text(errors="replace").splitlines(), 1):
        value, gap, name = line.partition("  ")
        if not gap or not name or name in listed:
            problems.append(f"{SUMS}: line {number} is not a checksum of one more file")
        else:
            listed[name] = value
    present = {
        str(p.relative_to(folder)): p
        for p in sorted(folder.rglob("*"))
        if p.is_symlink() or not p.is_dir()
    }
    present.pop(SUMS)
    for name, value in listed.items():
        path = present.pop(name, None)
        if path is None:
            problems.append(f"{name}: missing")
        elif path.is_symlink():
            problems.append(f"{name}: is a link")
        elif not path.is_file():  # a pipe would be read for ever
            problems.append(f"{name}: is not a regular file")
        elif digest(path) != value:
            problems.append(f"{name}: changed (sha256 differs)")
    problems += [f"{name}: not part of the bundle" for name in present]
    if not any(p.startswith(f"{MANIFEST}:") for p in problems):
        wanted = {name: entry.sha256 for name, entry in read_manifest(folder).files.items()}
        own = {name: value for name, value in listed.items() if name not in (MANIFEST, RECORD)}
        told = {problem.partition(": ")[0] for problem in problems}
        for name in sorted((wanted.keys() | own.keys()) - told):
            if wanted.get(name) != own.get(name):
                problems.append(f"{name}: {MANIFEST} and {SUMS} disagree")
    return problems


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a bounded size. Raises EV322."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise ValueError(f"larger than {MAX_JSON_BYTES} bytes")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
    except RecursionError as error:
        raise _broken(path, "nested too deeply") from error
    except (ValueError, OSError) as error:
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    return value


def _broken(path: Path, why: str) -> JobFault:
    return JobFault(
        "EV322",
        f"{path.name} of {path.parent.name} is broken",
        why[:300],
        f"copy or compile it again (edgevlm verify {shlex.quote(str(path.parent))} checks it all)",
    )


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or MANIFEST}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
