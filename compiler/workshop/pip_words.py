"""What of pip's words a person wants to read: why it failed, and what it is loading just now."""

from __future__ import annotations

import re

from edgevlm.compiler.workshop.child import Ended

__all__ = ["heavy_download", "reason"]

_UNREACHED = re.compile(r"connection broken by '(.+?)'(?:: \S+)?$")
_LOADING = re.compile(r"^Downloading (\S+?)(?:#\S*)? \((\d+(?:\.\d+)?) (MB|GB)\)")
_LEAST_MB = 10.0
_MOST = 300  # characters


def reason(ended: Ended) -> str:
    """One line. pip's own errors; before them, whether an index was out of reach."""
    unreached = next((m[1] for m in map(_UNREACHED.search, ended.said) if m), None)
    told = [line.removeprefix("ERROR: ") for line in ended.said if line.startswith("ERROR: ")]
    lines = told[-2:] or list(ended.said[-2:])
    if ended.status is None or not lines:
        lines.append(ended.how)
    if unreached:
        lines.insert(0, f"a package index was not reached ({unreached[:_MOST]})")
    return "; ".join(line[:_MOST] for line in lines)


def heavy_download(line: str) -> str | None:
    """A file that takes a while, with its size; None for any other line."""
    found = _LOADING.match(line)
    if not found or (found[3] == "MB" and float(found[2]) < _LEAST_MB):
        return None
    name = found[1].rpartition("/")[2]
    return f"    loading {name[:80]}, {found[2]} {found[3]}"
