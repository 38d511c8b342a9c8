"""The verb `edgevlm compile` with its options; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevlm.commands.calling import examples, speaks
from edgevlm.commands.output import Speaker

__all__ = ["compile_"]

ANY = click.Path(path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
TOKENS = click.IntRange(1, 8192)
STEPS = click.IntRange(1, 1_000_000)


@click.command(
    "compile",
    short_help="Compile a model into a bundle.",
    epilog=examples(
        "edgevlm compile easyvqa-tiny --target cpu -o b.edgevlm",
        "edgevlm compile path/to/checkpoint --target cpu --tokens 16 --quant w8 -o small.edgevlm",
    ),
)
@click.argument("model")
@click.option("--target", required=True, help="Device or alias; see `edgevlm devices list`.")
@click.option("-o", "--out", required=True, type=ANY, help="Bundle folder to write.")
@click.option("--tokens", help="Image tokens to keep: 64, 25%, or one a site: 50%,25%.")
@click.option("--prune", help="How they are chosen: METHOD[:option=value,...]; else by the site.")
@click.option("--prune-at", help="Where: vision:6, vision-out, connector-out, llm:2,llm:16.")
@click.option("--positions", help="original (default), renumber, run-end-pad.")
@click.option(
    "--quant", help="none, w8, w4a16, lut4, w8a8, w4a8, w3a8, dasq-w4a8, fp8, mixed:avg=5bit."
)
@click.option("--kv", help="KV caches: float (default), int8 (a scale a head).")
@click.option("--classes", help="Those that the device will see: cat,dog,truck; others go.")
@click.option("--alpha", type=float, help="Share of the vision part's work to take away: 0.6.")
@click.option("--latency-budget", help="As much as leaves the vision part this time: 5ms.")
@click.option("--domain", help="What a VLM is derived for: FOLDER with rows.jsonl, DATASET[:n].")
@click.option(
    "--purify",
    type=STEPS,
    is_flag=False,
    flag_value=600,
    help="Take units that mislead out first, by masks trained so many steps; 600.",
)
@click.option(
    "--recover",
    type=STEPS,
    is_flag=False,
    flag_value=300,
    help="Teach the narrowed part what the whole one says, so many steps; 300.",
)
@click.option("--recipe", type=ANY, help="TOML recipe, in place of --tokens ... --layout.")
@click.option("--max-prompt", type=TOKENS, help="Text tokens of a prompt; 64 by default.")
@click.option("--max-answer", type=TOKENS, help="Tokens of an answer; 32 by default.")
@click.option("--probes", type=FOLDER, help="Pictures to check every pass on.")
@click.option("--calib", help="What ranges are fitted to: FOLDER or DATASET[:n]; else the probes.")
@click.option(
    "--max-drop", type=float, help="Points that quantisation may lose; measured if given."
)
@click.option(
    "--min-sqnr",
    type=float,
    help="dB below which an approximating pass stops the compile; else 15, or less for few bits.",
)
@click.option(
    "--payoff",
    type=click.Choice(["none", "quick", "full"]),
    default="quick",
    show_default=True,
    help="Time pruned and quantised against not; full: at several sizes, too.",
)
@click.option("--toolchain", help="What is on the device: jetpack-6.2, tensorrt-10.13.")
@click.option("--os", help="Of an iPhone or Mac: 18 to 26 for Core ML, 27 for Core AI; else both.")
@click.option(
    "--layout",
    type=click.Choice(["tokens", "channels"]),
    help="Of an iPhone or Mac: channels first, linears as 1x1 convolutions; tokens by default.",
)
@click.option("--parts", help="Those that are written: vision,connector; others run elsewhere.")
@click.option(
    "--preflight",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Let a compiler of the target's maker try it here, where one is installed.",
)
@click.option("--force", is_flag=True, help="Replace a bundle; keep what does not pay or fit.")
@speaks
def compile_(speaker: Speaker, model: str, **asked: Any) -> None:
    """Compile MODEL into a bundle: a bundled name, an exported folder or a Hugging Face folder.

    Every pass is checked on probe pictures. A compile that fails leaves an older bundle whole.
    """
    from edgevlm.commands.compile import compile_model
    from edgevlm.commands.compile_options import options_of
    from edgevlm.commands.derived_show import derived_lines
    from edgevlm.commands.payoff_table import payoff_table
    from edgevlm.commands.preflight_show import preflight_lines
    from edgevlm.commands.quant_show import quant_lines
    from edgevlm.commands.tables import compile_table

    options = options_of(**asked)
    with speaker.stages(f"compile {model} for {options.target}") as progress:
        report = compile_model(model, options, progress)
    compile_table(speaker, report)
    preflight_lines(speaker, report["preflight"])
    derived_lines(speaker, report["derived"])
    payoff_table(speaker, report["payoff"])
    quant_lines(speaker, report["quant"])
    speaker.emit(report)
