"""Open a bundle for asking questions: what run, eval, profile and verify share."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import TOKENIZER
from edgevlm.models.answer import Answerer, Viewer
from edgevlm.runtimes import find_runtime

__all__ = ["Opened", "open_for_answers", "open_for_looks"]

MAX_TOKENIZER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Opened:
    answerer: Answerer
    bundle: Bundle

    @property
    def contract(self) -> Contract:
        return self.bundle.manifest.contract


def open_for_answers(bundle: Bundle, *, checked: bool = False) -> Opened:
    """checked: its artifacts were read before, as `Runtime.check` does.

    Raises EV322, EV323 (bundle), EV302 (runtime), EV304 (artifact), EV103-EV106.
    """
    path, manifest = bundle.folder, bundle.manifest
    if manifest.contract.kind != "vlm":
        raise JobFault(
            "EV323",
            f"{path.name} is a classifier",
            "it answers no questions",
            f"edgevlm inspect {shlex.quote(str(path))}",
        )
    _check_whole(bundle)
    if manifest.files[TOKENIZER].bytes > MAX_TOKENIZER_BYTES:
        raise JobFault(
            "EV322",
            f"{TOKENIZER} of {path.name} is broken",
            f"it is bigger than {MAX_TOKENIZER_BYTES // 2**20} MB",
            "compile or copy the bundle again",
        )
    parts = find_runtime(manifest.target.runtime).open(bundle, checked=checked)
    tokenizer = (path / TOKENIZER).read_bytes()
    return Opened(Answerer(manifest.contract, manifest.processor, tokenizer, parts), bundle)


def open_for_looks(bundle: Bundle, *, checked: bool = False) -> Viewer:
    """Of a bundle without words. Raises EV302 (runtime), EV304 (artifact)."""
    manifest = bundle.manifest
    _check_whole(bundle)
    parts = find_runtime(manifest.target.runtime).open(bundle, checked=checked)
    return Viewer(manifest.contract, manifest.processor, parts)


def _check_whole(bundle: Bundle) -> None:
    """Raises EV323 for a bundle whose other half another program runs."""
    manifest = bundle.manifest
    if manifest.elsewhere:
        raise JobFault(
            "EV323",
            f"{bundle.folder.name} has no {', '.join(manifest.elsewhere)}",
            f"it was compiled with --parts {','.join(a.role for a in manifest.artifacts)}",
            "run it with the program that has the rest, or compile it whole",
        )
