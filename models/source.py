"""What the user names -> an exported model: a bundled name, an exported folder, a HF checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel, load_model
from edgevlm.models.probes import drawn_probes, folder_probes
from edgevlm.models.zoo import BUNDLED, bundled_folder

__all__ = ["SourceOptions", "open_source"]

KINDS = "a bundled name, a folder with model.json, or a Hugging Face folder with config.json"


@dataclass(frozen=True)
class SourceOptions:
    """What a compile fixes about a source. None: the source's own default."""

    max_prompt: int | None = None  # text tokens of a prompt
    max_answer: int | None = None  # tokens
    probes: Path | None = None  # folder of pictures


def open_source(name: str, options: SourceOptions | None = None) -> ExportedModel:
    """Raises EV100 (nothing there), EV107 (unknown family), EV10x (broken)."""
    options = options or SourceOptions()
    path = Path(name)
    if name in BUNDLED and not path.exists():
        model = _exported(bundled_folder(name), name, options)
    elif (path / "model.json").is_file():
        model = _exported(path, name, options)
    elif (path / "config.json").is_file():
        model = _checkpoint(path, options)
    else:
        raise _nothing(name, path)
    if options.probes is not None:
        return replace(model, probes=folder_probes(options.probes))
    return model if model.probes else replace(model, probes=drawn_probes())


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


def _nothing(name: str, path: Path) -> JobFault | UsageFault:
    if path.exists():
        return JobFault(
            "EV100", f"{name} is not a model", f"a source is {KINDS}", "edgevlm compile --help"
        )
    near = get_close_matches(name, BUNDLED, n=3, cutoff=0.4) or list(BUNDLED)
    return UsageFault(
        "EV100",
        f"no model at {name!r}",
        f"no such folder, and bundled models are: {', '.join(BUNDLED)}",
        f"edgevlm compile {near[0]} --target cpu -o out.edgevlm",
    )
