"""The program that goes to a device with a bundle: those files of edgevlm that run one, in a zip.

What `commands/on_device.py` needs goes along (compiler/closure.py). Python runs such a zip as it
is. The same edgevlm makes the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

from edgevlm.compiler.closure import closure
from edgevlm.runtimes import RUNTIMES, find_runtime

__all__ = ["RUNNER", "modules", "runner"]

RUNNER = "run_on_device.pyz"
MAIN = "edgevlm.commands.on_device"
START = f"import sys\n\nfrom {MAIN} import main\n\nsys.exit(main())\n"


@cache
def runner(runtime: str) -> bytes:
    """For bundles of that runtime."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        files = {"__main__.py": START.encode()}
        for name, path in modules(runtime).items():
            inside = "/".join(name.split("."))
            file = f"{inside}/__init__.py" if path.name == "__init__.py" else f"{inside}.py"
            files[file] = path.read_bytes()
        for file in sorted(files):
            entry = zipfile.ZipInfo(file, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[file])
    return buffer.getvalue()


def modules(runtime: str) -> dict[str, Path]:
    """Name -> file of every module that goes along."""
    return closure([MAIN, RUNTIMES[runtime][0], *find_runtime(runtime).carried])
