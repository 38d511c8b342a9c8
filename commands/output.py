"""How a verb speaks: progress and tables on stderr for people, one JSON object on stdout for tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Speaker"]


class Speaker:
    """Made once a call from the shared options --json, --quiet and --no-color."""

    def __init__(self, as_json: bool = False, quiet: bool = False, colour: bool = True) -> None:
        self.as_json, self.quiet, self.colour = as_json, quiet, colour

    def console(self) -> Any:
        from rich.console import Console

        return Console(
            stderr=True, quiet=self.quiet, highlight=False, no_color=not self.colour or None
        )

    def emit(self, data: dict[str, Any]) -> None:
        """The one JSON object of `--json`."""
        if self.as_json:
            print(json.dumps(data, indent=1, allow_nan=False))

    @contextmanager
    def stages(self, title: str) -> Iterator[Callable[[str], None]]:
        """A line for each stage with its seconds and the memory so far."""
        from time import perf_counter

        from edgevlm.devices.host import peak_rss_mb

        console, running = self.console(), []

        def close() -> None:
            if running:
                name, start = running.pop()
                console.print(
                    f"  {name:<22} {perf_counter() - start:6.2f} s  {peak_rss_mb():6.0f} MB"
                )

        def begin(name: str) -> None:
            close()
            running.append((name, perf_counter()))

        console.print(f"[bold]{title}[/bold]")
        yield begin
        close()

    @contextmanager
    def bar(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar fed with (done, total)."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console(), disable=self.quiet) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def table(self, title: str, headings: list[str], rows: list[list[object]]) -> None:
        """A table on stderr; every column after the first is right-aligned."""
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for i, heading in enumerate(headings):
            table.add_column(heading, justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*[str(cell) for cell in row])
        self.console().print(table)

    def fault(self, lines: tuple[str, str, str], data: dict[str, str]) -> None:
        """Three lines on stderr; with --json the same on stdout as {"schema": 1, "error": ...}."""
        sys.stdout.flush()
        console = self.console()
        console.quiet = False  # an error is never quiet
        console.print(lines[0], style="bold red", markup=False, soft_wrap=True)
        for line in lines[1:]:
            console.print(line, markup=False, soft_wrap=True)
        if self.as_json:
            print(json.dumps({"schema": 1, "error": data}, indent=1))
