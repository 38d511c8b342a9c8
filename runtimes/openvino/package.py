"""The package `openvino`: found, new enough, and without its telemetry; or told to be missing.

`import openvino` imports its model converter as well, which at once reports the import to Google
Analytics and keeps a visitor's number in ~/intel. A compile works offline and writes where it is
told to, so `openvino_telemetry` is made to look as if it were not installed while the package is
imported; the converter then takes the stub that it brings for that case.
"""

from __future__ import annotations

import functools
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.lacking import lacking

__all__ = ["engine", "installed"]

TELEMETRY = "openvino_telemetry"
#: 2026.3 reads an int8 tensor without a zero point as uint8, 2025.4 does not know RMSNormalization
OLDEST = "2026.4"


@functools.cache
def engine() -> tuple[Any, Any]:
    """The `openvino.Core` and the ONNX reader of this process. Raises EV302.

    `Core.read_model` would hand a file that is no ONNX to readers of five other formats.
    """
    installed()
    quiet = TELEMETRY not in sys.modules
    if quiet:
        sys.modules[TELEMETRY] = None  # importing it raises ImportError
    try:
        import openvino
        from openvino.frontend import FrontEndManager
    except ImportError as error:
        raise _missing(f"it cannot be imported: {error}") from error
    finally:
        if quiet:
            del sys.modules[TELEMETRY]
    return openvino.Core(), FrontEndManager().load_by_framework("onnx")


def installed() -> str:
    """Its version. Raises EV302."""
    from packaging.version import Version

    try:
        found = version("openvino")
    except PackageNotFoundError as error:
        raise _missing("it is not installed; it makes and runs the artifacts") from error
    if Version(found) < Version(OLDEST):
        raise _missing(f"{found} is installed, which reads int8 graphs wrongly or not at all")
    return found


def _missing(why: str) -> JobFault:
    return lacking("openvino", f"openvino>={OLDEST}", why)
