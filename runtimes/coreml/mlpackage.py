"""A .mlpackage folder, opened with suspicion: what it names stays inside, what it holds has bounds.

    model.mlpackage/
        Manifest.json                          which item is the model
        Data/com.apple.CoreML/model.mlmodel    a protobuf: types, functions, ops
        Data/com.apple.CoreML/weights/*.bin    tensors, by offset (blob_file.py)

Layout: https://apple.github.io/coremltools/docs-guides/source/mlmodel-utilities.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml.package import coremltools

__all__ = ["Mlpackage", "broken", "open_mlpackage"]

MOST_MANIFEST = 1 << 20  # bytes; coremltools writes 600
MOST_MODEL = 512 << 20  # bytes; weights are not in it
#: specification 6 is iOS 15, the first with MIL; 10 is iOS 26
SPECIFICATIONS = range(6, 11)


@dataclass(frozen=True)
class Mlpackage:
    """folder: as given. spec: a Model protobuf of coremltools. beside: where the model file is."""

    folder: Path
    spec: Any
    beside: Path

    def weight_file(self, name: str) -> Path:
        """What a program calls `@model_path/weights/weight.bin`. Raises EV304."""
        inside = name.removeprefix("@model_path/")
        if inside == name:
            raise broken(self.folder, f"its weights are said to be at {name!r:.100}")
        return _inside(self.folder, self.beside, inside)


def open_mlpackage(folder: Path | str) -> Mlpackage:
    """Raises EV302 (no coremltools), EV304 (no package, or a broken or hostile one)."""
    folder = Path(folder)
    tools = coremltools()
    path = _model_file(folder)
    spec = tools.proto.Model_pb2.Model()
    try:
        spec.ParseFromString(_read(folder, path, MOST_MODEL))
    except Exception as error:  # DecodeError; which class depends on the protobuf in use
        raise broken(folder, f"{path.name} is no Core ML model ({error})") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise broken(folder, f"it holds a {spec.WhichOneof('Type')} and no ML program")
    if spec.specificationVersion not in SPECIFICATIONS:
        first, last = SPECIFICATIONS[0], SPECIFICATIONS[-1]
        why = f"its specification is {spec.specificationVersion}, and {first} to {last} are known"
        raise broken(folder, why)
    return Mlpackage(folder, spec, path.parent)


def broken(folder: Path, why: str) -> JobFault:
    """EV304, for a package that cannot be what our converter wrote."""
    return JobFault(
        "EV304",
        f"Core ML package {folder.name} cannot be used",
        why,
        "compile it again; `edgevlm verify BUNDLE` names files that were changed",
    )


def _model_file(folder: Path) -> Path:
    manifest = folder / "Manifest.json"
    try:
        told = json.loads(_read(folder, manifest, MOST_MANIFEST))
        entry = told["itemInfoEntries"][told["rootModelIdentifier"]]["path"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise broken(folder, f"Manifest.json does not name a model ({error!r:.100})") from error
    if not isinstance(entry, str):
        raise broken(folder, "Manifest.json names a model that is no path")
    return _inside(folder, folder / "Data", entry)


def _inside(folder: Path, base: Path, name: str) -> Path:
    """base / name, which may not lead out of the package, by `..`, a root or a link."""
    try:
        path = (base / name).resolve()
        stays = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError) as error:  # a NUL, a loop of links, a name that is too long
        raise broken(folder, f"{name!r:.100}: {error}") from error
    if not stays:
        raise broken(folder, f"{name!r:.100} is no file of the package")
    return path


def _read(folder: Path, path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise broken(folder, f"{path.name} is larger than {most >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise broken(folder, f"{path.name}: {error.strerror}") from error
