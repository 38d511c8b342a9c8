"""The packages of Core AI: found, and of the version that was tried.

coreai-torch writes assets, coreai-core (compiler and CPU runtime, a wheel for Linux and macOS)
stores and runs them. Both are imported under `quietly`.
https://github.com/apple/coreai-torch
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.lacking import lacking

__all__ = ["installed"]

#: lowerings reach into its dialect, which is promised to nobody; it brings the coreai-core it wants
WANTED = "0.4.3"
PACKAGES = ("coreai-torch", "coreai-core", "torch")


def installed() -> dict[str, str]:
    """Versions of what makes and runs assets. Raises EV302."""
    try:
        found = {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        raise _missing(f"{error.name} is not installed; it makes and runs the asset") from error
    if found["coreai-torch"] != WANTED:
        raise _missing(f"{found['coreai-torch']} is installed")
    return found


def _missing(why: str) -> JobFault:
    return lacking("coreai", f"coreai-torch=={WANTED}", why)
