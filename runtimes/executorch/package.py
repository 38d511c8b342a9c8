"""The package `executorch`: found, of the version that was tried; imported quietly."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.lacking import lacking

__all__ = ["installed"]

#: programs change with every release; what is said of kernels here was seen on this one
WANTED = "1.5"
PACKAGES = ("executorch", "torch", "torchao")


def installed() -> dict[str, str]:
    """Versions of what makes and runs programs. Raises EV302."""
    try:
        found = {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        raise _missing(f"{error.name} is not installed; it makes and runs the program") from error
    if not found["executorch"].startswith(f"{WANTED}."):
        raise _missing(f"{found['executorch']} is installed")
    return found


def _missing(why: str) -> JobFault:
    return lacking("executorch", f"executorch=={WANTED}.*", why)
