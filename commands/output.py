"""How a verb speaks: progress and tables on stderr for people, one JSON object on stdout for tools.

Names come from the user's disk or from a stranger's bundle, so nothing is read as rich's markup and
no control character reaches the terminal.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Bar", "Speaker", "silent"]

#: title -> progress of (done, total) while the block runs: `Speaker.bar`, or `silent`
Bar = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int], None]]]

LOG_WIDTH = 120  # columns where stderr is a file or a pipe and COLUMNS does not say
DRAW_EVERY_S, LOG_EVERY_S = 0.1, 15.0  # seconds between two looks at a bar, two lines of a log
NUMERIC = re.compile(r"[-+]?[\d.,]+( - [\d.,]+)?|-|exact|")


@contextlib.contextmanager
def silent(_: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that nobody sees."""
    yield lambda done, total: None


class Speaker:
    """Made once a call from the shared options --json, --quiet and --no-color."""

    def __init__(self, as_json: bool = False, quiet: bool = False, colour: bool = True) -> None:
        self.as_json, self.quiet, self.colour = as_json, quiet, colour
        self.told = False  # whether a fault was told
        self._console: Any = None

    def console(self) -> Any:
        """The one console of this call: a bar and a line must know of each other."""
        if self._console is None:
            from rich.console import Console

            log = not sys.stderr.isatty() and "COLUMNS" not in os.environ
            self._console = Console(
                stderr=True,
                quiet=self.quiet,
                highlight=False,
                no_color=not self.colour or None,
                width=LOG_WIDTH if log else None,
            )
        return self._console

    def say(self, text: str, style: str = "") -> None:
        """A sentence on stderr, as it is: never wrapped, never read as markup."""
        from rich.text import Text

        self.console().print(Text(_printable(text), style), soft_wrap=True)

    def emit(self, data: dict[str, Any]) -> None:
        """The one JSON object of `--json`."""
        if self.as_json:
            print(json.dumps(_finite(data), indent=1, allow_nan=False))

    @contextlib.contextmanager
    def stages(self, title: str) -> Iterator[Callable[[str], None]]:
        """A line for each stage with its seconds and the memory so far; a spinner meanwhile."""
        from time import perf_counter

        from rich.text import Text

        from edgevlm.devices.host import peak_rss_mb

        console, running = self.console(), []
        live = console.is_terminal and not self.quiet
        spinner = console.status(Text("")) if live else contextlib.nullcontext()

        def close() -> None:
            if running:
                name, start = running.pop()
                self.say(f"  {name:<22} {perf_counter() - start:6.2f} s  {peak_rss_mb():6.0f} MB")

        def begin(name: str) -> None:
            close()
            running.append((name, perf_counter()))
            if live:
                spinner.update(Text(name))

        self.say(title, "bold")
        with spinner:
            yield begin
            close()

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Progress fed with (done, total): a bar, or in a log a line now and then.

        Nothing shows before the first call, so that a job which never began is told by its error.
        The bar is drawn inside these calls only: a drawing thread would take the interpreter from a
        request that is being timed, for 5 ms at a stretch.
        """
        from time import perf_counter

        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        live = self.console().is_terminal
        pause, start = (DRAW_EVERY_S if live else LOG_EVERY_S), perf_counter()
        columns = [TextColumn("{task.description}", markup=False), MofNCompleteColumn()]
        columns[1:1] = Progress.get_default_columns()[1:2]
        progress = Progress(
            *columns, TimeRemainingColumn(), console=self.console(), auto_refresh=False
        )
        task = progress.add_task(_printable(title), total=None)
        last = start

        def advance(done: int, total: int) -> None:
            nonlocal last
            now = perf_counter()
            if self.quiet or (now - last < pause and done != total):
                return
            last = now
            if live:
                progress.start()
                progress.update(task, completed=done, total=total, refresh=True)
            else:
                self.say(f"{title}: {done} of {total}, {now - start:.1f} s")

        try:
            yield advance
        finally:
            if live:
                progress.stop()

    def table(self, title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table on stderr; columns of numbers are right-aligned."""
        from rich.table import Table
        from rich.text import Text

        cells = [[_printable(str(cell)) for cell in row] for row in rows]
        table = Table()
        for i, heading in enumerate(headings):
            numbers = all(NUMERIC.fullmatch(row[i]) for row in cells) and i > 0
            table.add_column(Text(heading), justify="right" if numbers else "left", overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        self.say(title, "bold")
        self.console().print(table)

    def fault(self, lines: tuple[str, str, str], data: dict[str, str]) -> None:
        """Three lines on stderr, never quiet; with --json the same on stdout as {"error": ...}."""
        first, *rest = (_printable(line) for line in lines)
        if self.colour and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            first = f"\x1b[1;31m{first}\x1b[0m"
        print(first, *rest, sep="\n", file=sys.stderr)
        self.told = True
        if self.as_json:
            print(json.dumps({"schema": 1, "error": data}, indent=1))


def _printable(text: str) -> str:
    """Control characters and stray bytes as escapes; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _finite(value: Any) -> Any:
    """JSON has no infinity and no not-a-number: such a figure is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
