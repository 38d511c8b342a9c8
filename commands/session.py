"""Open a bundle (or a source, run as it is) for asking questions: shared by run, eval and profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.bundle import MANIFEST, Bundle, open_bundle
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import PartCaller
from edgevlm.models.answer import Answerer
from edgevlm.runtimes import find_runtime

__all__ = ["Opened", "open_for_answers"]

MAX_TOKENIZER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Opened:
    answerer: Answerer
    bundle: Bundle

    @property
    def contract(self) -> Contract:
        return self.bundle.manifest.contract


def open_for_answers(path: Path) -> Opened:
    """Raises EV320-EV322 (bundle), EV302 (runtime), EV304 (artifact)."""
    if not (path / MANIFEST).is_file() and not path.exists():
        raise JobFault(
            "EV320",
            f"no bundle at {path}",
            "there is no such folder",
            f"edgevlm compile easyvqa-tiny --target cpu -o {path.name}",
        )
    bundle = open_bundle(path)
    manifest = bundle.manifest
    if manifest.contract.kind != "vlm":
        raise JobFault(
            "EV323",
            f"{path.name} is a classifier",
            "it answers no questions",
            f"edgevlm inspect {path}",
        )
    parts: PartCaller = find_runtime(manifest.target.runtime).open(bundle)
    file = path / "processor" / "tokenizer.json"
    if not file.is_file() or file.stat().st_size > MAX_TOKENIZER_BYTES:
        raise JobFault(
            "EV322",
            f"{path.name} lacks processor/tokenizer.json",
            "the bundle is not whole",
            f"edgevlm verify {path}",
        )
    return Opened(Answerer(manifest.contract, manifest.processor, file.read_bytes(), parts), bundle)
