"""What an optional package that is not installed is told as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgevlm.compiler.errors import JobFault

__all__ = ["torch_extra"]


@contextmanager
def torch_extra(what: str) -> Iterator[None]:
    """Around the imports of what needs torch; `what`: the whole first line. Raises EV190."""
    try:
        yield
    except ImportError as error:
        raise JobFault("EV190", what, str(error), "pip install 'edgevlm[torch]'") from error
