"""`edgevlm verify`: is every byte of a bundle what it was, and does it still answer its goldens?"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgevlm.commands.session import open_for_answers, open_for_looks
from edgevlm.compiler.bundle import SUMS, Bundle, check_bundle, open_bundle, read_manifest
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Also, Golden
from edgevlm.compiler.reference import MAX_ANSWER
from edgevlm.models.answer import map_samples, same_samples
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

__all__ = ["verify_bundle"]

SHOWN = 3  # problems told in one line
#: manifest.json, record.json and SHA256SUMS: checked, but not listed in the manifest
SPECIAL_FILES = 3


def verify_bundle(path: Path, *, run: bool = True) -> dict[str, Any]:
    """The JSON of `edgevlm verify --json`; `run` answers the goldens as well, where it is whole.

    Raises EV320 (not a bundle), EV321 (newer schema), EV322 (broken manifest), EV330 (tampered:
    names the files), EV331 (answers differ).
    """
    if not (path / SUMS).exists():
        read_manifest(path)  # says EV320 where there is no bundle at all
    problems = check_bundle(path)
    if problems:
        more = f" and {len(problems) - SHOWN} more" if problems[SHOWN:] else ""
        raise JobFault(
            "EV330",
            f"bundle {path.name} is not what was compiled",
            "; ".join(problems[:SHOWN]) + more,
            "copy or compile it again",
        )
    bundle = open_bundle(path)
    for other in bundle.manifest.also:  # whole to the byte; and does it open?
        _open(bundle, other)
    return {
        "schema": 1,
        "bundle": str(path),
        "ok": True,
        "digest": bundle.digest,
        "files": len(bundle.manifest.files) + SPECIAL_FILES,
        "goldens": _goldens(bundle) if run and not bundle.manifest.elsewhere else None,
        "elsewhere": list(bundle.manifest.elsewhere),
    }


def _open(bundle: Bundle, other: Also) -> None:
    runtime = find_runtime(other.runtime)
    runtime.open_artifacts(bundle.folder, other.artifacts, bundle.manifest.contract)


def _goldens(bundle: Bundle) -> dict[str, int]:
    goldens, ask = bundle.manifest.goldens, _asker(bundle)
    wrong = []
    for golden in goldens:
        same, text = ask(golden)
        if not same:
            wrong.append(f"{golden.image} {golden.question!r}: {text!r}, not {golden.answer!r}")
    if wrong:
        raise JobFault(
            "EV331",
            f"bundle {bundle.folder.name} answers {len(wrong)} of {len(goldens)} goldens "
            "differently here",
            wrong[0],
            "compare edgevlm doctor with target.toolchain of: "
            f"edgevlm inspect {shlex.quote(str(bundle.folder))} --json",
        )
    return {"agree": len(goldens), "of": len(goldens)}


def _asker(bundle: Bundle) -> Callable[[Golden], tuple[bool, str]]:
    """golden -> (whether the bundle says the same; what it says: words, a class, a map)."""
    manifest = bundle.manifest
    if manifest.contract.kind != "vlm":
        viewer = open_for_looks(bundle)

        def see(golden: Golden) -> tuple[bool, str]:
            seen = viewer.look(load_image(bundle.folder / golden.image))
            if manifest.contract.kind == "dense":
                said = map_samples(seen)
                return same_samples(said, golden.answer), said
            best = int(seen.argmax())
            return (best,) == golden.token_ids, str(best)

        return see
    answerer = open_for_answers(bundle).answerer

    def answer(golden: Golden) -> tuple[bool, str]:
        found = answerer.answer(
            load_image(bundle.folder / golden.image),
            golden.question,
            # one more than is right, so that an answer that goes on is seen
            max_new=min(len(golden.token_ids) + 1, MAX_ANSWER),
        )
        return found.token_ids == golden.token_ids, found.text

    return answer
