"""What the user names -> an exported model.

A bundled name, an exported folder, a Hugging Face checkpoint or a bare ONNX file.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel, load_model
from edgevlm.models.probes import drawn_probes, folder_probes
from edgevlm.models.zoo import BUNDLED, bundled_folder

__all__ = ["SourceOptions", "open_source"]

KINDS = (
    "a bundled name, a folder with model.json, a Hugging Face folder with config.json, or an .onnx "
    "file of an image model"
)


@dataclass(frozen=True)
class SourceOptions:
    """What a compile fixes about a source. None: the source's own default."""

    max_prompt: int | None = None  # text tokens of a prompt
    max_answer: int | None = None  # tokens
    probes: Path | None = None  # folder of pictures


def open_source(name: str, options: SourceOptions | None = None) -> ExportedModel:
    """Raises EV100 (nothing there), EV107 (unknown family), EV10x (broken), EV14x (ONNX file)."""
    options = options or SourceOptions()
    path = Path(name)
    match _kind(name, path):
        case "bundled":
            model = _exported(bundled_folder(name), name, options)
        case "exported":
            model = _exported(path, name, options)
        case "checkpoint":
            model = _checkpoint(path, options)
        case "onnx":
            model = _onnx(path, name, options)
        case other:
            raise _nothing(name, other)
    if options.probes is not None:
        return replace(model, probes=folder_probes(options.probes))
    return model if model.probes else replace(model, probes=drawn_probes())


def _kind(name: str, path: Path) -> str:
    there, isfile = os.path.exists, os.path.isfile  # Path's raise for a name that is too long
    if name in BUNDLED and not there(path):
        return "bundled"
    kinds = {"model.json": "exported", "config.json": "checkpoint", "manifest.json": "bundle"}
    for file, kind in kinds.items():
        if isfile(path / file):
            return kind
    if isfile(path):
        return "onnx" if path.suffix.lower() == ".onnx" else "file"
    return "folder" if there(path) else "nothing"


def _exported(folder: Path, name: str, options: SourceOptions) -> ExportedModel:
    if options.max_prompt is not None or options.max_answer is not None:
        raise UsageFault(
            "EV115",
            f"--max-prompt and --max-answer for {name}",
            "its parts are exported already, with static lengths",
            "compile the checkpoint instead (needs the torch extra)",
        )
    return load_model(folder)


def _checkpoint(folder: Path, options: SourceOptions) -> ExportedModel:
    from edgevlm.models.hf.checkpoint import Capacity, export_checkpoint

    default = Capacity()
    return export_checkpoint(
        folder, Capacity(options.max_prompt or default.prompt, options.max_answer or default.answer)
    )


def _onnx(path: Path, name: str, options: SourceOptions) -> ExportedModel:
    from edgevlm.models.onnx.frontend import import_onnx

    if options.max_prompt is not None or options.max_answer is not None:
        raise UsageFault(
            "EV115",
            f"--max-prompt and --max-answer for {name}",
            "a bare ONNX file is an image model, which reads no prompt",
            "leave them out",
        )
    return import_onnx(path)


def _nothing(name: str, kind: str) -> JobFault | UsageFault:
    if kind != "nothing":
        why = {
            "bundle": "it is a bundle already; a bundle is made from a model, not from a bundle",
            "file": f"it is a file; a source is {KINDS}",
            "folder": f"it has no model.json and no config.json; a source is {KINDS}",
        }[kind]
        fix = (
            f"edgevlm inspect {shlex.quote(name)}" if kind == "bundle" else "edgevlm compile --help"
        )
        return JobFault("EV100", f"{name or '.'} is not a model", why, fix)
    near = get_close_matches(name[:100], BUNDLED, n=3, cutoff=0.4) or list(BUNDLED)
    return UsageFault(
        "EV100",
        f"no model at {name[:200]!r}",
        f"no such folder, and bundled models are: {', '.join(BUNDLED)}",
        f"edgevlm compile {near[0]} --target cpu -o out.edgevlm",
    )
