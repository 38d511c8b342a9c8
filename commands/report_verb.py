"""The verb `edgevlm report` with its options; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path

import click

from edgevlm.commands.calling import examples, speaks
from edgevlm.commands.output import Speaker

__all__ = ["report"]


@click.command(
    short_help="Write one HTML page about bundles.",
    epilog=examples(
        "edgevlm report b.edgevlm -o b.html",
        "edgevlm report b.edgevlm --measure -o measured.html --json",
    ),
)
@click.argument("bundles", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="The page; NAME.html of the first bundle."
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="What `edgevlm profile --json` printed elsewhere; repeat it.",
)
@click.option("--measure", is_flag=True, help="Profile and verify here first.")
@click.option("--force", is_flag=True, help="Replace a page that is there.")
@speaks
def report(
    speaker: Speaker,
    bundles: tuple[Path, ...],
    out: Path | None,
    profiles: tuple[Path, ...],
    measure: bool,
    force: bool,
) -> None:
    """Write one self-contained HTML page about BUNDLES: what they are, how fast, how right, why.

    Figures are those that `profile` and `eval` measured of them on this machine, of their compile,
    and of files of --profile. Several bundles are compared as well.
    """
    from edgevlm.commands.report import ReportOptions, report_bundles

    made = report_bundles(bundles, ReportOptions(out, profiles, measure, force), speaker)
    for told in made["bundles"]:
        for warning in told["warnings"]:
            speaker.say(f"{told['bundle']}: {warning['level']}: {warning['text']}")
    speaker.say(f"{made['report']}: {made['bytes'] / 1e3:.0f} kB")
    speaker.emit(made)
