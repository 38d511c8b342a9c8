"""The package `openvino`, found or told to be missing, and without its telemetry.

`import openvino` imports its model converter as well, which at once reports the import to Google
Analytics and keeps a visitor's number in ~/intel. A compile works offline and writes where it is
told to, so `openvino_telemetry` is made to look as if it were not installed while the package is
imported; the converter then takes the stub that it brings for that case.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from edgevlm.compiler.errors import JobFault

__all__ = ["engine", "missing"]

TELEMETRY = "openvino_telemetry"


@functools.cache
def engine() -> tuple[Any, Any]:
    """The `openvino.Core` and the ONNX reader of this process. Raises EV302.

    `Core.read_model` would hand a file that is no ONNX to readers of five other formats.
    """
    quiet = TELEMETRY not in sys.modules
    if quiet:
        sys.modules[TELEMETRY] = None  # importing it raises ImportError
    try:
        import openvino
        from openvino.frontend import FrontEndManager
    except ImportError as error:
        raise missing(f"it cannot be imported: {error}") from error
    finally:
        if quiet:
            del sys.modules[TELEMETRY]
    return openvino.Core(), FrontEndManager().load_by_framework("onnx")


def missing(why: str) -> JobFault:
    """EV302: what to install."""
    return JobFault(
        "EV302",
        "runtime openvino lacks the package openvino",
        why,
        "pip install 'edgevlm[openvino]', or --target cpu, which needs nothing more",
    )
