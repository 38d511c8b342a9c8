"""The verbs that say what there is: passes, devices, and the state of this machine."""

from __future__ import annotations

import sys

import click

from edgevlm.commands.calling import examples, speaks
from edgevlm.commands.output import Speaker
from edgevlm.compiler.errors import UsageFault

__all__ = ["devices", "doctor", "passes"]


def _asked_to_list() -> bool:
    """Whether a group was called by its own name alone, which lists."""
    return click.get_current_context().invoked_subcommand is None


@click.group(
    invoke_without_command=True,
    short_help="List the passes and token reduction methods, show one.",
    epilog=examples("edgevlm passes", "edgevlm passes show dart"),
)
@speaks
def passes(speaker: Speaker) -> None:
    """Passes and token reduction methods: list them (also without a sub-command), show one."""
    if _asked_to_list():
        _list_passes(speaker)


@passes.command("list", epilog=examples("edgevlm passes list", "edgevlm passes list --json"))
@speaks
def passes_list(speaker: Speaker) -> None:
    """All passes with their effect, all token reduction methods with their sites."""
    _list_passes(speaker)


@passes.command(
    "show",
    epilog=examples("edgevlm passes show dart", "edgevlm passes show keep-tokens --json"),
)
@click.argument("name")
@speaks
def passes_show(speaker: Speaker, name: str) -> None:
    """The card and the options of one pass or token reduction method."""
    from edgevlm.commands.cards import card_of
    from edgevlm.commands.passes import show_pass

    card = show_pass(name)
    card_of(speaker, card)
    speaker.emit(card)


@click.group(
    invoke_without_command=True,
    short_help="List the devices, show one with its sources.",
    epilog=examples("edgevlm devices", "edgevlm devices show cpu"),
)
@speaks
def devices(speaker: Speaker) -> None:
    """The devices: list them (also without a sub-command), show the facts of one."""
    if _asked_to_list():
        _list_devices(speaker)


@devices.command("list", epilog=examples("edgevlm devices list", "edgevlm devices list --json"))
@speaks
def devices_list(speaker: Speaker) -> None:
    """All devices."""
    _list_devices(speaker)


@devices.command(
    "show", epilog=examples("edgevlm devices show cpu", "edgevlm devices show host-cpu --json")
)
@click.argument("name")
@speaks
def devices_show(speaker: Speaker, name: str) -> None:
    """The facts of one device, each with source and confidence."""
    from edgevlm.commands.devices import render_device, show

    shown = show(name)
    render_device(shown, speaker.console())
    speaker.emit({"schema": 1, **shown})


@click.command(
    short_help="Say what is missing, here or on a device.",
    epilog=examples("edgevlm doctor", "edgevlm doctor --device ssh://pi@raspberrypi.local"),
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Its id, or ssh://USER@HOST, adb:SERIAL.",
)
@click.option("--python", help="Python of a device elsewhere, where it is not ~/.edgevlm's.")
@click.option("--install", metavar="TOOL", help="Make its environment: ethos, coreai, ...")
@speaks
def doctor(speaker: Speaker, device: str, python: str | None, install: str | None) -> None:
    """Say what is missing on this machine or on a device, and the command that fixes it.

    Some tools need packages that cannot be beside those of edgevlm: --install gives such a tool an
    environment of its own, in the user's cache.
    """
    from edgevlm.commands.doctor import doctor as examine
    from edgevlm.commands.doctor import render

    if install is not None:
        from edgevlm.commands.doctor_tools import install_tool

        if python or device != "cpu":
            raise UsageFault(
                "EV220",
                "--install with --device or --python",
                "a tool is made on this machine, whatever the device",
                f"edgevlm doctor --install {install[:40]}",
            )
        speaker.emit({"schema": 1, **install_tool(speaker, install)})
        return
    report = examine(device, python)
    render(report, speaker.console())
    speaker.emit({"schema": 1, **report.as_json()})
    if not report.ok:
        sys.exit(1)


def _list_passes(speaker: Speaker) -> None:
    from edgevlm.commands.cards import lists
    from edgevlm.commands.methods import list_methods
    from edgevlm.commands.passes import list_passes

    rows, methods = list_passes(), list_methods()
    lists(speaker, rows, methods)
    speaker.emit({"schema": 1, "items": rows, "methods": methods})


def _list_devices(speaker: Speaker) -> None:
    from edgevlm.commands.devices import list_rows, render_rows

    rows = list_rows()
    render_rows(rows, speaker.console())
    speaker.emit({"schema": 1, "items": rows})
