"""The verb `edgevlm compare` with its options; nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgevlm.commands.calling import examples, speaks
from edgevlm.commands.output import Speaker
from edgevlm.compiler.errors import EdgeError, UsageFault

__all__ = ["compare"]

ANY = click.Path(path_type=Path)


class _Percent(click.ParamType):
    """5% or 5; zero or more."""

    name = "percent"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            found = float(str(value).removesuffix("%"))
        except ValueError:
            found = -1.0
        if not 0 <= found < 1000:
            self.fail(
                f"{str(value)[:40]!r} is no percentage from 0 to 1000, such as 5%", param, ctx
            )
        return found


@click.command(
    short_help="Compare two bundles: what changed, by how much, how surely.",
    epilog=examples(
        "edgevlm compare old.edgevlm new.edgevlm",
        "edgevlm compare old.edgevlm new.edgevlm --dataset easy-scenes --max-drop 1 --limit 300",
    ),
)
@click.argument("a", type=ANY)
@click.argument("b", type=ANY)
@click.option(
    "-n", type=click.IntRange(1), default=100, show_default=True, help="Timed requests of each."
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Untimed requests first.",
)
@click.option("--image", type=ANY, help="Time both on this picture.")
@click.option("--prompt", help="Time both with this question about --image.")
@click.option("--dataset", help="Ask both its rows: easy-vqa, easy-scenes, scenes; fashion-mnist.")
@click.option("--split", help="Which part of the dataset; test by default.")
@click.option("--limit", type=int, help="Evenly spread rows to ask; all by default.")
@click.option("--data", "data_dir", type=ANY, help="Folder of the dataset, if not installed.")
@click.option("--classes", help="Of classifiers: rows of these only, and no other answers.")
@click.option(
    "--max-slower", type=_Percent(), help="Fail unless B is shown to be at most so much slower: 5%."
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    help="Fail unless B is shown to lose no more points.",
)
@speaks
def compare(
    speaker: Speaker,
    a: Path,
    b: Path,
    dataset: str | None,
    split: str | None,
    limit: int | None,
    data_dir: Path | None,
    classes: str | None,
    **how: Any,
) -> None:
    """Compare bundle B with A: settings, passes, sizes, speed turn about and, asked for, accuracy.

    Every difference that was measured comes with its 95 % interval and a sentence that says whether
    it is more than chance.
    """
    from edgevlm.commands.compare import Compared, compare_bundles
    from edgevlm.commands.compare_accuracy import Asked
    from edgevlm.commands.compare_table import compare_table

    rows = {"limit": limit, "data_dir": data_dir, "classes": classes}
    if dataset is None and (split, *rows.values()) != (None, None, None, None):
        raise UsageFault(
            "EV220",
            "compare with rows of no data set",
            "--split, --limit, --data and --classes say which rows of --dataset to ask",
            "add --dataset NAME, or leave them out",
        )
    asked = Asked(dataset, split or "test", **rows) if dataset is not None else None
    report = compare_bundles(a, b, Compared(**how, asked=asked), speaker.bar)
    compare_table(speaker, report)
    speaker.emit(report)
    if not report["ok"]:
        people = Speaker(colour=speaker.colour)  # with --json the report is on stdout already
        for gate in report["gates"]:
            if fault := gate["fault"]:
                people.fault(EdgeError(*fault.values()).lines(), fault)
        sys.exit(1)
