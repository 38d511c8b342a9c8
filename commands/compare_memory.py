"""The most memory that a bundle takes: that of a process which opens it and asks it once.

A peak is one of a whole process and never falls, so that two bundles in one process have one figure
between them. Each is therefore opened in a process of its own, as
`python -m edgevlm.commands.compare_memory BUNDLE IMAGE QUESTION`, which prints MB of 1e6 bytes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from edgevlm.compiler.bundle import Bundle
from edgevlm.devices.host import peak_rss_mb

__all__ = ["peak_of"]

LIMIT_S = 600.0  # a request that takes longer has no figure


def peak_of(bundle: Bundle, image: Path, question: str) -> float | None:
    """MB, Python and its libraries included; None where that process failed."""
    # -P: a folder called edgevlm where the caller stands is not this package
    call = [sys.executable, "-P", "-m", __spec__.name, str(bundle.folder), str(image), question]
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=LIMIT_S)
        return float(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _peak_mb() -> float:
    """Of this process since it began. Linux counts what forked it as well, but not in VmHWM."""
    status = Path("/proc/self/status")
    told = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(told[1]) * 1024 / 1e6 if told else peak_rss_mb()


def _main(folder: str, image: str, question: str) -> None:
    from edgevlm.commands.compare_speed import open_once
    from edgevlm.compiler.bundle import open_bundle
    from edgevlm.models.processing.image import load_image

    open_once(open_bundle(Path(folder)))(load_image(Path(image)), question)
    print(_peak_mb())


if __name__ == "__main__":
    _main(*sys.argv[1:])
