"""The verb `edgevlm sweep` with its options; nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgevlm.commands.calling import examples, speaks
from edgevlm.commands.output import Speaker

__all__ = ["sweep"]


@click.command(
    short_help="Compile, evaluate and time a grid of options.",
    epilog=examples(
        "edgevlm sweep easyvqa-tiny --target cpu --over tokens=50%,25% -o sweep --limit 100",
        "edgevlm sweep easyvqa-tiny --target cpu --over prune=dart,stride --over tokens=8 -o s "
        "--limit 50",
    ),
)
@click.argument("model")
@click.option("--target", required=True, help="Device or alias; see `edgevlm devices list`.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Its folder.")
@click.option("--over", multiple=True, required=True, help="KEY=VALUE,VALUE: an axis; repeat it.")
@click.option("--dataset", help="What to ask; the model's own by default, none for probes only.")
@click.option("--split", default="test", show_default=True, help="Which part of the dataset.")
@click.option("--limit", type=int, help="Evenly spread questions to ask; all by default.")
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    help="Folder of the dataset, if not installed.",
)
@click.option(
    "-n", type=click.IntRange(1), default=50, show_default=True, help="Timed requests a cell."
)
@click.option(
    "--baseline/--no-baseline", default=True, help="The unpruned model, beside each cell."
)
@click.option("--keep-bundles/--no-keep-bundles", default=False, help="Leave them in OUT/cells.")
@click.option("--force", is_flag=True, help="Start anew where another sweep is.")
@speaks
def sweep(speaker: Speaker, model: str, **asked: Any) -> None:
    """Compile, evaluate and time MODEL with every combination of options; plot what is best.

    Called again, it goes on where it was stopped.

    \b
    Keys of --over:
      prune, prune-at, tokens, positions, quant, kv, max-prompt, max-answer, min-sqnr
    """
    from edgevlm.commands.sweep import SweepOptions, sweep_model
    from edgevlm.commands.sweep_table import sweep_table

    report = sweep_model(model, SweepOptions(**asked), speaker)
    sweep_table(speaker, report)
    speaker.emit(report)
    if not report["ok"]:
        sys.exit(1)
