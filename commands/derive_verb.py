"""The verb `edgevlm derive` with its options; nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgevlm.commands.calling import examples, speaks
from edgevlm.commands.output import Speaker

__all__ = ["derive"]


@click.command(
    short_help="Derive a fleet: a small model for each set of classes.",
    epilog=examples(
        "edgevlm derive fashion-vit --class-sets sets.toml --calib fashion-mnist:1000 -o fleet",
        "edgevlm derive m --class-sets s.toml --calib pictures -o fleet --on ray://head:10001",
    ),
)
@click.argument("model")
@click.option(
    "--class-sets", required=True, type=click.Path(path_type=Path), help="TOML with a [[set]] each."
)
@click.option("--targets", help="Devices or aliases, a,b: for sets that name no target.")
@click.option("--alpha", type=float, help="For sets without a budget: share of the work that goes.")
@click.option("--calib", required=True, help="Labelled pictures: FOLDER/<class>/* or DATASET:n.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundles."
)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes; one a core by default.")
@click.option("--on", default="local", show_default=True, help="local, or ray://HEAD:PORT.")
@click.option("--force", is_flag=True, help="Derive all anew; keep what does not pay.")
@speaks
def derive(speaker: Speaker, model: str, targets: str | None, **asked: Any) -> None:
    """Derive many models from MODEL: one bundle for each set of classes, its budget and target.

    What all sets have in common is done once. Called again, it goes on where it was stopped.
    """
    from edgevlm.commands.derive import FleetOptions, derive_models
    from edgevlm.commands.derive_show import derive_table

    names = tuple(name.strip() for name in targets.split(",")) if targets else ()
    report = derive_models(model, FleetOptions(targets=names, **asked), speaker)
    derive_table(speaker, report)
    speaker.emit(report)
    if not report["ok"]:
        sys.exit(1)
