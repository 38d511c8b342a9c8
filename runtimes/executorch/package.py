"""The package `executorch`: found, of the version that was tried, imported without its noise."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from edgevlm.compiler.errors import JobFault

__all__ = ["installed", "quietly"]

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


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Around its imports and calls: torch and torchao tell of themselves on every stream."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with _no_native_words():
                yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _no_native_words() -> Iterator[None]:
    """What libraries written in C++ say, they say past Python's streams."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _missing(why: str) -> JobFault:
    return JobFault(
        "EV302",
        f"runtime executorch lacks the package executorch=={WANTED}.*",
        why,
        "pip install 'edgevlm[executorch]', or --target cpu, which needs nothing more",
    )
