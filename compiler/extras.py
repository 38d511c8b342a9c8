"""What an optional package that is not installed is told as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgevlm.compiler.errors import JobFault

__all__ = ["torch_extra"]


@contextmanager
def torch_extra(what: str, otherwise: str = "") -> Iterator[None]:
    """Around the imports of what needs torch. Raises EV190.

    what: the whole first line of the error. otherwise: how it goes without.
    """
    install = "pip install 'edgevlm[torch]'"
    try:
        yield
    except ImportError as error:
        raise JobFault(
            "EV190", what, str(error), install + (otherwise and f", or {otherwise}")
        ) from error
