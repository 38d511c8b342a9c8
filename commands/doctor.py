"""`edgevlm doctor`: what is here, what is missing, and which part of edgevlm asks for it.

A check never raises and never guesses. `ok` is True when it holds, False when it stops the device
asked for, and None when it is only needed elsewhere or cannot be told; every line that is not True
says what to do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edgevlm.commands import doctor_checks as checks
from edgevlm.commands.doctor_checks import Check
from edgevlm.commands.doctor_tools import tool_checks
from edgevlm.compiler.errors import UsageFault

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Check", "Report", "doctor", "render"]


@dataclasses.dataclass(frozen=True)
class Report:
    """All checks for one device."""

    device: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True when nothing stops the device asked for."""
        return all(check.ok is not False for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """{"device", "ok", "checks": [{"name", "ok", "found", "needed_for", "fix"}]}."""
        return {
            "device": self.device,
            "ok": self.ok,
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }


def doctor(device: str = "cpu", python: str | None = None) -> Report:
    """Check this machine for compiling for `device` (an id or alias) and profiling here.

    An address (ssh://USER@HOST, adb:SERIAL) checks what is there instead; `python` is one of its
    own. Raises UsageFault EV301 for an unknown device, EV430; the checks themselves never raise.
    """
    from edgevlm.devices.connect.address import connection_to, is_address

    if is_address(device):
        from edgevlm.commands.doctor_there import checks_there

        connection = connection_to(device)
        return Report(device, tuple(_guarded("device", lambda: checks_there(connection, python))))
    runtime = ""
    found: list[Check] = []
    try:
        from edgevlm.devices import find_device

        entry = find_device(device)
        device, runtime = entry.id, entry.runtime
    except UsageFault:
        raise
    except Exception as error:
        found.append(_broken("device files", error))
    for name, check in (
        ("runtime", lambda: checks.runtime(runtime)),
        ("python", checks.python),
        ("packages", lambda: checks.packages(runtime)),
        ("tools", lambda: tool_checks(runtime)),
        ("facts", lambda: checks.facts(runtime, device)),
        ("machine", checks.machine),
        ("disk", checks.disk),
        ("energy meter", checks.meters),
        ("programs", checks.programs),
    ):
        found.extend(_guarded(name, check))
    return Report(device, tuple(found))


def render(report: Report, console: Console | None = None) -> None:
    """Print the report as a table on stderr, or on `console`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"edgevlm doctor, device {report.device}", title_justify="left")
    for heading in ("", "check", "found", "needed for", "fix"):
        table.add_column(heading, overflow="fold")
    marks = {True: Text("ok", "green"), False: Text("no", "bold red"), None: Text("-", "yellow")}
    for check in report.checks:
        # Text and not str: "edgevlm[torch]" would be read as markup.
        table.add_row(
            marks[check.ok],
            *(Text(part or "") for part in (check.name, check.found, check.needed_for, check.fix)),
        )
    (console or Console(stderr=True)).print(table)


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from check()
    except Exception as error:
        yield _broken(name, error)


def _broken(name: str, error: Exception) -> Check:
    why = getattr(error, "why", type(error).__name__)
    return Check(
        name,
        False,
        f"the check itself failed: {why}",
        "everything",
        'pip install --force-reinstall "edgevlm"',
    )
