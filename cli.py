"""The command line. Every verb is a few lines that call one function of `commands/`.

Nothing heavy is imported before a verb runs: `edgevlm --help` must not wait for onnxruntime.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgevlm import __version__
from edgevlm.commands.output import Speaker
from edgevlm.compiler.errors import EdgeError

__all__ = ["cli", "main"]

BUNDLE = click.Path(path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)


def speaks(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Shared options of all verbs, and the one place where errors become exit statuses."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
    @click.option("--quiet", is_flag=True, help="No progress, no tables.")
    @click.option("--color/--no-color", "colour", default=True, help="Colours on stderr.")
    @functools.wraps(verb)
    def wrapped(*args: Any, as_json: bool, quiet: bool, colour: bool, **kwargs: Any) -> None:
        speaker = Speaker(as_json, quiet, colour)
        try:
            verb(speaker, *args, **kwargs)
        except EdgeError as error:
            speaker.fault(error.lines(), error.as_json())
            sys.exit(error.exit_status)

    return wrapped


def examples(*lines: str) -> str:
    """The end of a verb's help: two real calls."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgevlm")
def cli() -> None:
    """Compile a vision-language model for one named edge device, prove it, measure it there."""


@cli.command(
    "compile",
    epilog=examples(
        "edgevlm compile easyvqa-tiny --target cpu -o b.edgevlm",
        "edgevlm compile path/to/checkpoint --target cpu --tokens 16 --quant w8 -o small.edgevlm",
    ),
)
@click.argument("model")
@click.option("--target", required=True, help="Device or alias; see `edgevlm devices list`.")
@click.option("-o", "--out", required=True, type=BUNDLE, help="Bundle folder to write.")
@click.option("--tokens", type=int, help="Image tokens to keep, 1..N; all by default.")
@click.option(
    "--select", default="dart", show_default=True, help="How they are chosen: dart, stride."
)
@click.option("--quant", default="none", show_default=True, help="Weights: none, w8.")
@click.option("--recipe", type=FILE, help="TOML recipe; replaces --tokens, --select and --quant.")
@click.option("--max-prompt", type=click.IntRange(1, 8192), help="Text tokens of a prompt [64].")
@click.option("--max-answer", type=click.IntRange(1, 8192), help="Tokens of an answer [32].")
@click.option("--probes", type=FOLDER, help="Pictures to check every pass on.")
@click.option(
    "--min-sqnr",
    type=float,
    default=15.0,
    show_default=True,
    help="dB below which an approximating pass stops the compile.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@speaks
def compile_(
    speaker: Speaker,
    model: str,
    target: str,
    out: Path,
    tokens: int | None,
    select: str,
    quant: str,
    recipe: Path | None,
    max_prompt: int | None,
    max_answer: int | None,
    probes: Path | None,
    min_sqnr: float,
    force: bool,
) -> None:
    """Compile MODEL (bundled name, exported folder or Hugging Face folder) into a bundle."""
    from edgevlm.commands.compile import CompileOptions, compile_model
    from edgevlm.commands.tables import compile_table
    from edgevlm.models.source import SourceOptions
    from edgevlm.passes.pipelines import Flags

    options = CompileOptions(
        target=target,
        out=out,
        flags=Flags(tokens, select, quant),
        recipe=recipe,
        source=SourceOptions(max_prompt, max_answer, probes),
        force=force,
        min_sqnr=min_sqnr,
    )
    with speaker.stages(f"compile {model} for {target}") as progress:
        report = compile_model(model, options, progress)
    compile_table(speaker, report)
    speaker.emit(report)


@cli.command(
    epilog=examples(
        'edgevlm run b.edgevlm --image cat.png --prompt "What color is the shape?"',
        'edgevlm run b.edgevlm --image cat.png --prompt "Is there a circle?" --json',
    )
)
@click.argument("bundle", type=BUNDLE)
@click.option("--image", required=True, type=FILE, help="PNG, JPEG or WebP.")
@click.option("--prompt", required=True, help="The question.")
@click.option("--max-new", type=click.IntRange(1), help="Stop after so many tokens.")
@speaks
def run(speaker: Speaker, bundle: Path, image: Path, prompt: str, max_new: int | None) -> None:
    """Ask BUNDLE a question about a picture; the answer streams to stdout."""
    from edgevlm.commands.run import run_bundle

    show = (lambda _: None) if speaker.as_json else functools.partial(print, end="", flush=True)
    report = run_bundle(bundle, image, prompt, max_new=max_new, on_text=show)
    if not speaker.as_json:
        print()
    total, first = report["stages"]["end_to_end"], report["stages"].get("prefill", 0)
    speaker.console().print(
        f"[dim]{report['tokens']} tokens, {total:.1f} ms (prefill {first:.1f} ms), "
        f"image tokens {report['image_tokens']['kept']} of "
        f"{report['image_tokens']['of']}[/dim]"
    )
    speaker.emit(report)


@cli.command(
    "eval",
    epilog=examples(
        "edgevlm eval b.edgevlm --dataset easy-vqa --split test",
        "edgevlm eval b.edgevlm --dataset easy-vqa --limit 500 --json",
    ),
)
@click.argument("bundle", type=BUNDLE)
@click.option("--dataset", required=True, help="easy-vqa, easy-scenes.")
@click.option("--split", default="test", show_default=True)
@click.option("--limit", type=int, help="Evenly spread questions to ask; all by default.")
@click.option("--data", "data_dir", type=FOLDER, help="Folder of the dataset, if not installed.")
@speaks
def eval_(
    speaker: Speaker,
    bundle: Path,
    dataset: str,
    split: str,
    limit: int | None,
    data_dir: Path | None,
) -> None:
    """Exact-match accuracy of BUNDLE on a dataset, by question type."""
    from edgevlm.commands.evaluate import evaluate_bundle
    from edgevlm.commands.tables import eval_table

    with speaker.bar(f"eval {dataset} {split}") as advance:
        report = evaluate_bundle(
            bundle, dataset, split, limit=limit, data_dir=data_dir, advance=advance
        )
    eval_table(speaker, report)
    speaker.emit(report)


@cli.command(
    epilog=examples("edgevlm profile b.edgevlm", "edgevlm profile b.edgevlm -n 500 --ops --json")
)
@click.argument("bundle", type=BUNDLE)
@click.option("--device", default="local", show_default=True, help="Where to measure: local.")
@click.option("-n", type=int, default=100, show_default=True, help="Timed requests.")
@click.option("--warmup", type=int, default=10, show_default=True, help="Untimed requests first.")
@click.option("--power", default="auto", show_default=True, help="Energy meter: auto, rapl, none.")
@click.option("--image", type=FILE, help="Profile on this picture (with --prompt).")
@click.option("--prompt", help="Profile with this question (with --image).")
@click.option("--ops", is_flag=True, help="Time by op as well.")
@speaks
def profile(
    speaker: Speaker,
    bundle: Path,
    device: str,
    n: int,
    warmup: int,
    power: str,
    image: Path | None,
    prompt: str | None,
    ops: bool,
) -> None:
    """Measure BUNDLE here: milliseconds a stage, fps, tokens a second, joules an answer."""
    from edgevlm.commands.profile import profile_bundle
    from edgevlm.commands.tables import profile_table

    with speaker.bar("profile") as advance:
        report = profile_bundle(
            bundle,
            device=device,
            n=n,
            warmup=warmup,
            power=power,
            image=image,
            prompt=prompt,
            ops=ops,
            advance=advance,
        )
    profile_table(speaker, report)
    speaker.emit(report)


@cli.command(
    epilog=examples("edgevlm inspect easyvqa-tiny", "edgevlm inspect b.edgevlm --axes --json")
)
@click.argument("model")
@click.option("--axes", is_flag=True, help="Name the dimensions of every value.")
@click.option("--ops", is_flag=True, help="List the ops of every part.")
@speaks
def inspect(speaker: Speaker, model: str, axes: bool, ops: bool) -> None:
    """Show what is in a model or bundle: ports, sizes, ops, axes, passes, drift."""
    from edgevlm.commands.inspect import inspect_model
    from edgevlm.commands.tables import inspect_table

    report = inspect_model(model, axes=axes)
    inspect_table(speaker, report, axes=axes, ops=ops)
    speaker.emit(report)


@cli.command(
    epilog=examples("edgevlm verify b.edgevlm", "edgevlm verify b.edgevlm --no-run --json")
)
@click.argument("bundle", type=BUNDLE)
@click.option("--run/--no-run", default=True, help="Answer the goldens as well.")
@speaks
def verify(speaker: Speaker, bundle: Path, run: bool) -> None:
    """Check every byte of BUNDLE and its golden answers."""
    from edgevlm.commands.verify import verify_bundle

    report = verify_bundle(bundle, run=run)
    goldens = report["goldens"]
    answers = f", {goldens['agree']} of {goldens['of']} golden answers" if goldens else ""
    speaker.console().print(f"{bundle}: {report['files']} files unchanged{answers}")
    speaker.emit(report)


@cli.group(epilog=examples("edgevlm passes list", "edgevlm passes show keep-tokens"))
def passes() -> None:
    """The graph passes: list them, show the card of one."""


@passes.command("list", epilog=examples("edgevlm passes list", "edgevlm passes list --json"))
@speaks
def passes_list(speaker: Speaker) -> None:
    """All passes with their effect."""
    from edgevlm.commands.passes import list_passes

    rows = list_passes()
    speaker.table(
        "passes",
        ["name", "effect", "summary"],
        [[r["name"], r["effect"], r["summary"]] for r in rows],
    )
    speaker.emit({"schema": 1, "items": rows})


@passes.command(
    "show",
    epilog=examples(
        "edgevlm passes show keep-tokens", "edgevlm passes show quantize-weights --json"
    ),
)
@click.argument("name")
@speaks
def passes_show(speaker: Speaker, name: str) -> None:
    """The card and the options of one pass."""
    from edgevlm.commands.passes import show_pass
    from edgevlm.commands.tables import pass_card

    card = show_pass(name)
    pass_card(speaker, card)
    speaker.emit(card)


@cli.group(epilog=examples("edgevlm devices list", "edgevlm devices show cpu"))
def devices() -> None:
    """The devices: list them, show the facts of one with their sources."""


@devices.command("list", epilog=examples("edgevlm devices list", "edgevlm devices list --json"))
@speaks
def devices_list(speaker: Speaker) -> None:
    """All devices."""
    from edgevlm.commands.devices import list_rows, render_rows

    rows = list_rows()
    render_rows(rows, speaker.console())
    speaker.emit({"schema": 1, "items": rows})


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


@cli.command(epilog=examples("edgevlm doctor", "edgevlm doctor --device cpu --json"))
@click.option("--device", default="cpu", show_default=True, help="Device to check for.")
@speaks
def doctor(speaker: Speaker, device: str) -> None:
    """Say what is missing on this machine, and the command that fixes it."""
    from edgevlm.commands.doctor import doctor as examine
    from edgevlm.commands.doctor import render

    report = examine(device)
    render(report, speaker.console())
    speaker.emit({"schema": 1, **report.as_json()})
    sys.exit(0 if report.ok else 1)


def main() -> None:
    """Entry point: Ctrl-C ends with 130 and leaves nothing half-written."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted; nothing was changed", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
