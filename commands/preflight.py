"""What a compiler on this host says of artifacts, if the runtime has one and it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import Preflight, Runtime

__all__ = ["ask_preflight"]


def ask_preflight(
    runtime: Runtime,
    draft: Path,
    artifacts: Sequence[Artifact],
    wanted: bool,
    progress: Callable[[str], None],
) -> Preflight | None:
    """None for a runtime that has none. Raises as `Runtime.preflight`."""
    if not runtime.has_preflight:
        return None
    if not wanted:
        return Preflight(None, "left out: --preflight none")
    progress("preflight")
    return runtime.preflight(draft, artifacts)
