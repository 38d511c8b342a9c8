"""The package `coremltools`: found, new enough, imported without its noise; or told to be missing.

It says half a screen to stderr while it is imported (versions of scikit-learn and torch that it was
not tested with; its macOS library, which no other system has; torchao's libraries, for want of a
GPU). None of it is about the user's model.
"""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.quiet import quietly
from edgevlm.runtimes.lacking import lacking

__all__ = ["coremltools", "installed"]

#: the first with iOS 26 and the blockwise compression ops as inputs; converted and read here
OLDEST = "9.0"


@functools.cache
def coremltools() -> ModuleType:
    """The package of this process. Raises EV302."""
    installed()
    try:
        with quietly():
            import coremltools
    except ImportError as error:
        raise _missing(f"it cannot be imported: {error}") from error
    return coremltools


def installed() -> str:
    """Its version. Raises EV302."""
    from packaging.version import Version

    try:
        found = version("coremltools")
    except PackageNotFoundError as error:
        raise _missing("it is not installed; it makes and reads .mlpackage folders") from error
    if Version(found) < Version(OLDEST):
        raise _missing(f"{found} is installed, which does not know the ops of iOS 18 and later")
    return found


def _missing(why: str) -> JobFault:
    return lacking("coreml", f"coremltools>={OLDEST}", why)
