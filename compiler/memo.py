"""What several runs of one pass have in common, kept between them.

Two budgets for the same pictures need the same sums over these pictures. Whoever runs a pass more
than once on one model with one calibration hands all of them one memo; it counts the seconds that
were spent on what is kept, and how often that was asked for again. What would take it over `limit`
is made anew each time, so that memory stays bounded: slower, and the same numbers. What hangs on
less, and is the same for other calibrations too, goes into the `wider` memo, under a key that says
what it is of. With a shelf, arrays outlive the process as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

from edgevlm.compiler.shelf import Arrays, Shelf, bytes_of

__all__ = ["ROOM", "Memo"]

ROOM = 1 << 30  # bytes; a good limit for one

T = TypeVar("T")


@dataclass
class Memo:
    limit: int = 0  # bytes; with 0 nothing is kept
    held: int = 0
    seconds: float = 0.0  # that making things took
    made: int = 0
    found: int = 0
    base: Memo | None = None
    shelf: Shelf | None = None  # for `arrays`, those of memos with this one as base too
    _values: dict[str, Any] = field(default_factory=dict)
    _making: bool = False

    @property
    def wider(self) -> Memo:
        """Of whoever shares one with other memos; itself where nobody does."""
        return self.base or self

    def arrays(self, key: str, make: Callable[[], Arrays]) -> Arrays:
        """As `kept`, and looked for on the shelf first; what is there was made before."""
        shelf = self.wider.shelf
        if key in self._values or shelf is None:
            return self.kept(key, make, bytes_of)
        with self._timed():
            found = shelf.read(key)
        if found is not None:
            self.found += 1
            self._hold(key, found, bytes_of(found))
            return found
        made = self.kept(key, make, bytes_of)
        with self._timed():
            shelf.write(key, made)
        return made

    def kept(self, key: str, make: Callable[[], T], bytes_: Callable[[T], int] = lambda _: 0) -> T:
        """The value of `key`, made if it is not there. bytes_: what keeping it takes."""
        if key in self._values:
            self.found += 1
            return self._values[key]
        with self._timed():
            value = make()
        self.made += 1
        self._hold(key, value, bytes_(value))
        return value

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Once, where what is made asks for other things that are kept."""
        outer, self._making = self._making, True
        start = perf_counter()
        try:
            yield
        finally:
            self._making = outer
            self.seconds += 0.0 if outer else perf_counter() - start

    def _hold(self, key: str, value: Any, size: int) -> None:
        if self.limit > 0 and self.held + size <= self.limit:
            self._values[key] = value
            self.held += size
