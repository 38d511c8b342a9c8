"""The bundle: the folder that ships. Written whole or not at all, checked before it is used.

manifest.json   what it is (deterministic)       recipe.toml   how to make it again
record.json     how making it went               SHA256SUMS    sha256 of every other file
<runtime>/      artifacts                        processor/    tokenizer
goldens/        images with known answers
"""

from __future__ import annotations

import hashlib
import json
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
    "write_sums",
]

MANIFEST, RECORD, SUMS = "manifest.json", "record.json", "SHA256SUMS"
MAX_MANIFEST_BYTES = 16 * 2**20


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
        """sha256 of the manifest, which holds the sha256 of all artifacts: names the whole bundle."""
        return digest(self.folder / MANIFEST)

    def record(self) -> dict[str, Any]:
        """record.json; {} where it is missing."""
        path = self.folder / RECORD
        return json.loads(path.read_text()) if path.is_file() else {}


def digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """Read a bundle's manifest. Digests are `check_bundle`'s work.

    Raises EV320 (not a bundle), EV321 (a newer schema), EV322 (broken manifest).
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise JobFault(
            "EV320",
            f"{folder} is not a bundle",
            f"it has no {MANIFEST}",
            f"edgevlm compile MODEL --target cpu -o {folder.name or 'out'}.edgevlm",
        )
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"larger than {MAX_MANIFEST_BYTES} bytes")
        data = json.loads(path.read_text())
        schema = data["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise JobFault(
                "EV321",
                f"bundle {folder.name} has schema {schema}",
                f"this edgevlm reads up to schema {SCHEMA}",
                "pip install --upgrade edgevlm",
            )
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError, KeyError, TypeError, OSError) as error:
        raise JobFault(
            "EV322",
            f"{MANIFEST} of {folder.name} is broken",
            _first(error),
            f"edgevlm verify {folder}",
        ) from error
    return Bundle(folder, manifest)


def check_bundle(folder: Path) -> list[str]:
    """Every difference between the files and what SHA256SUMS and the manifest say; [] if none."""
    sums = folder / SUMS
    if not sums.is_file():
        return [f"{SUMS}: missing"]
    listed = {}
    for line in sums.read_text(errors="replace").splitlines():
        value, _, name = line.partition("  ")
        listed[name] = value
    problems = []
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
        elif digest(path) != value:
            problems.append(f"{name}: changed (sha256 differs)")
    problems += [f"{name}: not part of the bundle" for name in present]
    if not any(p.startswith(MANIFEST) for p in problems):
        for name, entry in open_bundle(folder).manifest.files.items():
            if listed.get(name) != entry.sha256:
                problems.append(f"{name}: {MANIFEST} and {SUMS} disagree")
    return problems


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
