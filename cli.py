"""The command line. Every verb is a few lines that call one function of `commands/`.

Nothing heavy is imported before a verb runs: `edgevlm --help` must not wait for onnxruntime.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import click

from edgevlm import __version__
from edgevlm.commands.calling import call, examples, speaks
from edgevlm.commands.compare_verb import compare
from edgevlm.commands.compile_verb import compile_
from edgevlm.commands.derive_verb import derive
from edgevlm.commands.listing import devices, doctor, passes
from edgevlm.commands.output import Speaker
from edgevlm.commands.report_verb import report
from edgevlm.commands.sweep_verb import sweep

__all__ = ["cli", "main"]

ANY = click.Path(path_type=Path)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    epilog=examples(
        "edgevlm compile easyvqa-tiny --target cpu -o b.edgevlm",
        "edgevlm eval b.edgevlm --dataset easy-vqa --split test",
    ),
)
@click.version_option(__version__, prog_name="edgevlm")
@click.pass_context
def cli(context: click.Context) -> None:
    """Compile a vision-language model for one named edge device, prove it, measure it there."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(
    short_help="Ask a bundle about a picture.",
    epilog=examples(
        'edgevlm run b.edgevlm --image cat.png --prompt "What color is the shape?"',
        'edgevlm run b.edgevlm --image cat.png --prompt "Is there a circle?" --json',
    ),
)
@click.argument("bundle", type=ANY)
@click.option("--image", required=True, type=ANY, help="PNG, JPEG, WebP, BMP, GIF or TIFF.")
@click.option("--prompt", help="The question; a classifier or dense model is asked none.")
@click.option("--max-new", type=click.IntRange(1), help="Stop after so many tokens.")
@click.option("--save-map", type=ANY, help="PNG to write the map of a dense model to.")
@speaks
def run(speaker: Speaker, bundle: Path, image: Path, prompt: str | None, **how: Any) -> None:
    """Ask BUNDLE a question about a picture; the answer streams to stdout."""
    from edgevlm.commands.run import run_bundle
    from edgevlm.commands.tables import run_line, see_line

    show = (lambda _: None) if speaker.as_json else functools.partial(print, end="", flush=True)
    report = run_bundle(bundle, image, prompt, **how, on_text=show)
    if "answer" not in report:
        see_line(speaker, report)
    else:
        if not speaker.as_json:
            print(flush=True)
        run_line(speaker, report)
    speaker.emit(report)


@cli.command(
    "eval",
    short_help="Accuracy of a bundle on a dataset.",
    epilog=examples(
        "edgevlm eval b.edgevlm --dataset easy-vqa --split test",
        "edgevlm eval b.edgevlm --dataset easy-vqa --limit 500 --json",
    ),
)
@click.argument("bundle", type=ANY)
@click.option("--dataset", required=True, help="easy-vqa, easy-scenes, scenes; fashion-mnist.")
@click.option("--split", default="test", show_default=True, help="Which part of the dataset.")
@click.option("--limit", type=int, help="Evenly spread rows to ask; all by default.")
@click.option("--data", "data_dir", type=ANY, help="Folder of the dataset, if not installed.")
@click.option("--classes", help="Of a classifier: rows of these only, with and without the others.")
@speaks
def eval_(speaker: Speaker, bundle: Path, dataset: str, split: str, **chosen: Any) -> None:
    """Accuracy of BUNDLE on a dataset, by question type or by class.

    A VLM is asked, and is right word for word; a classifier is shown every picture, and its
    likeliest class counts.
    """
    from edgevlm.commands.evaluate import evaluate_bundle
    from edgevlm.commands.tables import eval_table

    with speaker.bar(f"eval {dataset} {split}") as advance:
        report = evaluate_bundle(bundle, dataset, split, **chosen, advance=advance)
    eval_table(speaker, report)
    speaker.emit(report)


@cli.command(
    short_help="Measure a bundle here or on a device.",
    epilog=examples(
        "edgevlm profile b.edgevlm -n 500 --ops --json",
        "edgevlm profile b.edgevlm --device ssh://pi@raspberrypi.local --duration 30s",
    ),
)
@click.argument("bundle", type=ANY)
@click.option(
    "--device",
    default="local",
    show_default=True,
    help="local, ssh://USER@HOST, adb:SERIAL; a name predicts.",
)
@click.option("-n", type=int, default=100, show_default=True, help="Timed requests.")
@click.option("--warmup", type=int, default=10, show_default=True, help="Untimed requests first.")
@click.option("--duration", help="Time requests for so long instead: 30s, 5m.")
@click.option("--power", default="auto", show_default=True, help="A meter, auto or none.")
@click.option("--image", type=ANY, help="Profile on this picture.")
@click.option("--prompt", help="Profile with this question about --image.")
@click.option("--ops", is_flag=True, help="Time by op as well.")
@click.option("--python", help="Python of the device, where it is not ~/.edgevlm or python3.")
@click.option("--runner", type=ANY, help="executor_runner to bring to a device without Python.")
@click.option("--keep", is_flag=True, help="Leave the copy on the device for the next call.")
@speaks
def profile(speaker: Speaker, bundle: Path, **how: Any) -> None:
    """Measure BUNDLE: milliseconds a stage, fps, tokens a second, joules an answer.

    The requests are the bundle's golden questions in turn, or one picture and prompt of yours; a
    bundle without words is shown pictures alone.
    """
    from edgevlm.commands.payoff_table import payoff_table
    from edgevlm.commands.predict_table import predict_table
    from edgevlm.commands.profile import profile_bundle
    from edgevlm.commands.profile_table import profile_table

    report = profile_bundle(bundle, **how, bar=speaker.bar)
    if report.get("how") == "predicted":
        predict_table(speaker, report)
    else:
        profile_table(speaker, report)
        payoff_table(speaker, report["payoff"])
    speaker.emit(report)


@cli.command(
    short_help="Show what is in a model or bundle.",
    epilog=examples("edgevlm inspect easyvqa-tiny", "edgevlm inspect b.edgevlm --axes --json"),
)
@click.argument("model")
@click.option("--axes", is_flag=True, help="Name the dimensions of every value.")
@click.option("--ops", is_flag=True, help="List the ops of every part.")
@click.option("--quant", is_flag=True, help="List the quantised layers of a bundle.")
@click.option("--plot", type=ANY, help="Draw them as well: FILE.png or FILE.svg (with --quant).")
@speaks
def inspect(
    speaker: Speaker, model: str, axes: bool, ops: bool, quant: bool, plot: Path | None
) -> None:
    """Show what is in MODEL or in a bundle: ports, sizes, ops, axes, passes, drift, layers."""
    from edgevlm.commands.inspect import inspect_model
    from edgevlm.commands.quant_show import draw_layers, quant_table
    from edgevlm.commands.tables import inspect_table

    report = inspect_model(model, axes=axes, quant=quant or plot is not None)
    if plot is not None:
        draw_layers(report["quant"], plot)
    if quant:
        quant_table(speaker, report["quant"])
    else:
        inspect_table(speaker, report, axes=axes, ops=ops)
    speaker.emit(report)


@cli.command(
    short_help="Check every byte and golden answer of a bundle.",
    epilog=examples("edgevlm verify b.edgevlm", "edgevlm verify b.edgevlm --no-run --json"),
)
@click.argument("bundle", type=ANY)
@click.option("--run/--no-run", default=True, help="Answer the goldens as well.")
@speaks
def verify(speaker: Speaker, bundle: Path, run: bool) -> None:
    """Check every byte of BUNDLE and its golden answers."""
    from edgevlm.commands.tables import verify_line
    from edgevlm.commands.verify import verify_bundle

    report = verify_bundle(bundle, run=run)
    verify_line(speaker, report)
    speaker.emit(report)


cli.add_command(compare)
cli.add_command(compile_)
cli.add_command(derive)
cli.add_command(sweep)
cli.add_command(report)
cli.add_command(passes)
cli.add_command(devices)
cli.add_command(doctor)


def main() -> None:
    """Entry point; how a call ends is told in `commands/calling.py`."""
    sys.exit(call(cli))


if __name__ == "__main__":
    main()
