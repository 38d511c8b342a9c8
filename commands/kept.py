"""What was measured of a bundle, kept by its digest, so that a report can show it later.

measured/<digest>/<kind>/<time>.json in the cache: the JSON that the verb printed, without the path
that the bundle was called by. The last `KEEP` of a kind stay; removing them is harmless. A cache
that cannot be written loses nothing but this: the verb still prints its figures.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edgevlm.compiler.atomic import atomic_file
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.errors import JobFault

__all__ = ["KEEP", "Kind", "keep", "kept"]

KEEP = 50
MAX_BYTES = 64 * 2**20
Kind = Literal["profile", "eval"]


def keep(kind: Kind, bundle: Bundle, report: dict[str, Any]) -> None:
    """Write one down, with the moment it was measured, UTC."""
    now = datetime.now(UTC)
    entry = {key: value for key, value in report.items() if key != "bundle"}
    entry["at"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    home = _home(kind, bundle)
    with contextlib.suppress(OSError, JobFault):
        home.mkdir(parents=True, exist_ok=True)
        atomic_file(home / f"{now:%Y%m%dT%H%M%S.%fZ}.json", json.dumps(entry).encode())
        for old in sorted(home.glob("*.json"))[:-KEEP]:
            old.unlink(missing_ok=True)


def kept(kind: Kind, bundle: Bundle) -> list[dict[str, Any]]:
    """Those there are, the newest first; a file that is no JSON object is passed over."""
    found = []
    for path in sorted(_home(kind, bundle).glob("*.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if path.stat().st_size <= MAX_BYTES:
                entry = json.loads(path.read_bytes())
                found += [entry] if isinstance(entry, dict) else []
    return found


def _home(kind: Kind, bundle: Bundle) -> Path:
    return cache_root() / "measured" / bundle.digest.removeprefix("sha256:") / kind
