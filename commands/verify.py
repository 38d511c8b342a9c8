"""`edgevlm verify`: is every byte of a bundle what it was, and does it still answer its goldens?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevlm.commands.session import open_for_answers
from edgevlm.compiler.bundle import check_bundle, open_bundle
from edgevlm.compiler.errors import JobFault
from edgevlm.models.processing.image import load_image

__all__ = ["verify_bundle"]


def verify_bundle(path: Path, *, run: bool = True) -> dict[str, Any]:
    """The JSON of `edgevlm verify --json`; `run` answers the goldens as well.

    Raises EV320 (not a bundle), EV321 (newer schema), EV330 (tampered: names the files), EV331
    (answers differ).
    """
    bundle = open_bundle(path) if not (path / "SHA256SUMS").is_file() else None
    problems = check_bundle(path)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise JobFault(
            "EV330",
            f"bundle {path.name} is not what was compiled",
            "; ".join(problems[:3]) + more,
            "compile or copy it again",
        )
    bundle = bundle or open_bundle(path)
    report: dict[str, Any] = {
        "schema": 1,
        "bundle": str(path),
        "ok": True,
        "digest": f"sha256:{bundle.digest}",
        "files": len(bundle.manifest.files),
        "goldens": None,
    }
    if run:
        report["goldens"] = _goldens(path)
    return report


def _goldens(path: Path) -> dict[str, int]:
    opened = open_for_answers(path)
    goldens = opened.bundle.manifest.goldens
    wrong = []
    for golden in goldens:
        got = opened.answerer.answer(
            load_image(path / golden.image), golden.question, max_new=max(len(golden.token_ids), 1)
        )
        if got.token_ids != golden.token_ids:
            wrong.append(f"{golden.image} {golden.question!r}: {got.text!r}, not {golden.answer!r}")
    if wrong:
        raise JobFault(
            "EV331",
            f"bundle {path.name} answers {len(wrong)} of {len(goldens)} goldens differently here",
            wrong[0],
            "edgevlm doctor  compares tool versions",
        )
    return {"agree": len(goldens), "of": len(goldens)}
