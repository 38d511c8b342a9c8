"""Tables of Instruments: how `xctrace` is called to record and export them, and what it exports.

    record  a trace of an app on a phone or of a program on the Mac, with the Core ML instrument
    export  --toc: which runs and tables are in it;  --xpath: one table as XML

In a table a value is written once with an id, and again as a reference to it:

    <row><start-time id="1" fmt="00:01.160">1160091583</start-time><process id="4" fmt="app (9)"/>
    <row><start-time id="7" ...>...</start-time><process ref="4"/></row>

Columns have names in the schema, by order; references may lead into other rows and into elements
inside elements. Shape: `xcrun xctrace help export`, and exports that were published, such as
https://github.com/jonhoo/inferno/tree/main/tests/data/collapse-xctrace

Which schemas there are is read from the table of contents: they change between versions of Xcode,
and some (`coreml-model-event`) are not exported by any so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgevlm.runtimes.coreml.mac import Run, called, this_mac, unreadable
from edgevlm.runtimes.coreml.plain_xml import Element, parse

__all__ = ["Cell", "Table", "TraceRun", "export_argv", "export_table", "parse_table", "parse_toc",
           "record_argv"]  # fmt: skip

XCTRACE = ("xcrun", "xctrace")
MOST_ROWS = 2_000_000
MOST_TEXT = 1 << 16  # of a cell; cells are made of cells, and those of others


def record_argv(
    output: str,
    seconds: int,
    *,
    attach: str | None = None,
    launch: tuple[str, ...] = (),
    device: str | None = None,
    template: str = "Core ML",
    instruments: tuple[str, ...] = (),
) -> list[str]:
    """One of attach (a name or process number) and launch. device: a UDID; None is the Mac.

    Raises ValueError for both, for neither, and for a name that would be read as an option.
    """
    if (attach is None) == (not launch):
        raise ValueError("an app to attach to, or a command to launch: one of them")
    words = (output, attach or "", device or "", template, *instruments, *launch[:1])
    if any(word.startswith("-") for word in words):
        raise ValueError("a name that begins with a dash")
    argv = [*XCTRACE, "record", "--template", template]
    for name in instruments:
        argv += ["--instrument", name]
    if device:
        argv += ["--device", device]
    argv += ["--time-limit", f"{int(seconds)}s", "--no-prompt", "--output", output]
    return [*argv, "--attach", attach] if attach else [*argv, "--launch", "--", *launch]


def export_argv(trace: str, schema: str | None = None, run: int = 1) -> list[str]:
    """The table of contents, or one table; it is printed."""
    if schema is None:
        return [*XCTRACE, "export", "--input", trace, "--toc"]
    if not schema.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"no name of a schema: {schema!r:.60}")
    path = f'/trace-toc/run[@number="{int(run)}"]/data/table[@schema="{schema}"]'
    return [*XCTRACE, "export", "--input", trace, "--xpath", path]


def export_table(trace: str, schema: str, run: Run | None = None, number: int = 1) -> Table:
    """trace: a path there. run: a Mac; None is this machine. Raises EV380, EV381, EV382."""
    mac = run or this_mac()
    runs = parse_toc(called(mac, export_argv(trace)))
    one = next((r for r in runs if r.number == number), None)
    if one is None or schema not in one.schemas:
        has = sorted(set(one.schemas)) if one else [f"run {r.number}" for r in runs]
        raise unreadable(f"table {schema} of {trace}", f"the trace has {', '.join(has) or 'none'}")
    return parse_table(called(mac, export_argv(trace, schema, number)))


@dataclass(frozen=True)
class TraceRun:
    """Of a table of contents. target, template: as written, empty where they are not."""

    number: int
    schemas: tuple[str, ...]
    device: str
    template: str
    seconds: float | None


@dataclass(frozen=True)
class Cell:
    """value: the text of the element, a number in nanoseconds or the like. shown: for people."""

    value: str
    shown: str

    @property
    def number(self) -> int:
        """Raises ValueError."""
        return int(self.value)


@dataclass(frozen=True)
class Table:
    """columns: mnemonics in order. rows: mnemonic -> cell; a column without a value is absent."""

    schema: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Cell], ...]


def parse_toc(data: bytes) -> tuple[TraceRun, ...]:
    """What `export --toc` printed. Raises EV381."""
    root = _root(data, "trace-toc")
    found = []
    for run in root.all("run"):
        if not re.fullmatch("[0-9]{1,9}", run.attributes.get("number", "")):
            raise unreadable("a table of contents of xctrace", "a run without a number")
        tables = (run.first("data") or Element("data", {})).all("table")
        device = run.first("info", "target", "device")
        summary = run.first("info", "summary")
        found.append(
            TraceRun(
                int(run.attributes["number"]),
                tuple(t.attributes["schema"] for t in tables if "schema" in t.attributes),
                device.attributes.get("name", "") if device else "",
                _text(summary, "template-name"),
                _float(_text(summary, "duration")),
            )
        )
    return tuple(found)


def parse_table(data: bytes) -> Table:
    """What `export --xpath` printed for one table. Raises EV381."""
    root = _root(data, "trace-query-result")
    nodes = root.all("node")  # one a table: a schema may have several, as of two instruments
    if len(nodes) > 1:
        raise unreadable("a table of xctrace", f"{len(nodes)} tables of one schema in it")
    schema = nodes[0].first("schema") if nodes else None
    if schema is None:
        raise unreadable("a table of xctrace", "it has no node with a schema")
    columns = tuple(_text(column, "mnemonic") for column in schema.all("col"))
    known: dict[str, Cell] = {}
    rows = []
    for row in nodes[0].all("row"):
        if len(rows) >= MOST_ROWS:
            raise unreadable("a table of xctrace", f"more than {MOST_ROWS} rows")
        rows.append(dict(_cells(row, columns, known)))
    return Table(schema.attributes.get("name", ""), columns, tuple(rows))


def _cells(
    row: Element, columns: tuple[str, ...], known: dict[str, Cell]
) -> Iterator[tuple[str, Cell]]:
    """By the order of columns; by their own names where the schema lists none."""
    if columns and len(row.children) > len(columns):
        raise unreadable(
            "a table of xctrace", f"{len(row.children)} cells in {len(columns)} columns"
        )
    for place, element in enumerate(row.children):
        cell = _cell(element, known)
        if element.tag != "sentinel":  # a column without a value in this row
            yield (columns[place] if columns else element.tag), cell


def _cell(element: Element, known: dict[str, Cell]) -> Cell:
    """References are to what came before; what is inside has ids of its own."""
    inside = [_cell(child, known) for child in element.children]
    if (to := element.attributes.get("ref")) is not None:
        if to not in known:
            raise unreadable("a table of xctrace", f"a reference to {to!r:.40}, which is nowhere")
        return known[to]
    own = element.text or element.attributes.get("name", "")
    value = own or " ".join(cell.value for cell in inside if cell.value)
    shown = element.attributes.get("fmt") or own or ", ".join(c.shown for c in inside if c.shown)
    if max(len(value), len(shown)) > MOST_TEXT:
        raise unreadable("a table of xctrace", f"a cell of more than {MOST_TEXT} letters")
    cell = Cell(value, shown)
    if (name := element.attributes.get("id")) is not None:
        known[name] = cell
    return cell


def _root(data: bytes, tag: str) -> Element:
    try:
        root = parse(data)
    except ValueError as error:
        raise unreadable("what xctrace exported", error) from error
    if root.tag != tag:
        raise unreadable("what xctrace exported", f"it is a <{root.tag:.60}> and no <{tag}>")
    return root


def _text(element: Element | None, tag: str) -> str:
    found = element.first(tag) if element else None
    return found.text if found else ""


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
