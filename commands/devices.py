"""`edgevlm devices list` and `devices show`: the device files, with where each number is from.

Data functions return plain dicts for `--json`; rendering is for people and goes to stderr. A claim
is never shown without its source and confidence, nor in one table with what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgevlm.devices import find_device, list_devices
from edgevlm.devices.host import describe_host
from edgevlm.runtimes import RUNTIMES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["list_rows", "render_device", "render_rows", "show"]

_CLAIMED = "claimed; A: read in a primary source, B: in another, or derived, C: not verified"
_IDENTITY = ("id", "name", "aliases", "family", "runtime")


def list_rows() -> list[dict[str, Any]]:
    """One row a device, sorted by id; `compiles`: whether this version has its runtime.

    Raises JobFault EV401 for a broken device file.
    """
    return [
        device.model_dump(mode="json", include=set(_IDENTITY))
        | {"compiles": device.runtime in RUNTIMES}
        for device in list_devices()
    ]


def show(name: str) -> dict[str, Any]:
    """Everything one device file says; what is not published is absent.

    For the machine this runs on, `this_machine` holds what was read just now. Raises UsageFault
    EV301 for an unknown name.
    """
    device = find_device(name)
    shown = device.model_dump(mode="json", exclude_none=True)
    if device.host:
        shown["this_machine"] = describe_host().as_json()
    return shown


def render_rows(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print `list_rows()` as a table."""
    table = _table("devices", "id", "aliases", "runtime", "compiles", "family", "name")
    for row in rows:
        said = "yes" if row["compiles"] else "not yet"
        _add(table, row["id"], row["aliases"], row["runtime"], said, row["family"], row["name"])
    _console(console).print(table)


def render_device(shown: Mapping[str, Any], console: Console | None = None) -> None:
    """Print `show(name)`: identity, then claims, what was measured, the machine now, each apart."""
    identity = _table(None, "", "")
    for key in _IDENTITY:
        _add(identity, key, shown[key])
    for package, versions in shown["toolchain"].items():
        _add(identity, "toolchain", f"{package} {versions}")
    if shown["power_modes"]:
        _add(identity, "power modes", [mode["name"] for mode in shown["power_modes"]])

    names = {address: name for name, address in shown["sources"].items()}
    claims = _table(_CLAIMED, "what", "value", "unit", "confidence", "source", "note")
    for what, fact in _facts(shown):
        source = names.get(fact["source"], fact["source"])
        cells = (fact.get(key) for key in ("value", "unit", "confidence"))
        _add(claims, what, *cells, source, fact.get("note"))
    sources = _table("sources", "name", "address")
    for name, address in shown["sources"].items():
        _add(sources, name, address)

    measured = _table("measured", "what", "value", "unit", "n", "how", "date", "method")
    for item in shown["measured"]:
        _add(
            measured,
            *(item[key] for key in ("what", "value", "unit", "n", "how", "date", "method")),
        )

    now = _table("this machine, read now", "what", "value")
    for key, value in shown.get("this_machine", {}).items():
        _add(now, key, value)

    for table in (identity, claims, sources, measured, now):
        if table.row_count:
            _console(console).print(table)


def _facts(shown: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every sourced entry with its place, such as `memory.dram`; what was measured is not one."""
    for key, value in shown.items():
        place = f"{at}{key}"
        if key in ("measured", "this_machine"):
            continue
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, Mapping):
                continue
            where = f"{place} {item['name']}" if "name" in item else place
            if "confidence" in item:
                saying = item.get("text") or item.get("covers") or item.get("what") or _takes(item)
                yield (f"{where}: {saying}" if saying else where), item
            yield from _facts(item, f"{where}.")


def _takes(item: Mapping[str, Any]) -> str | None:
    """What a unit is, and the dtypes that it computes with, at a rate that is known or not."""
    return f"{item['kind']}, {' '.join(item['dtypes'])}" if "kind" in item else None


def _add(table: Table, *cells: object) -> None:
    """Add a row of plain text: names and sources may hold what rich would read as markup."""
    from rich.text import Text

    texts = []
    for cell in cells:
        if isinstance(cell, list):
            texts.append(", ".join(map(str, cell)))
        elif isinstance(cell, float):
            texts.append(f"{cell:.12g}")
        else:
            texts.append("-" if cell is None else str(cell))
    table.add_row(*map(Text, texts))


def _table(title: str | None, *headings: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=any(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _console(console: Console | None) -> Console:
    from rich.console import Console

    return console or Console(stderr=True)
