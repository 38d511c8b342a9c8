"""The main job, end to end: compile, ask, evaluate, profile, and one table.

    make demo        or        .venv/bin/python examples/demo.py [--questions 9673] [--tokens 16]

The source is the bundled model as it was trained (float weights, all image tokens). The compiled
one keeps some of the image tokens, chosen inside the graph, and stores its weights as int8. Both
run in ONNX Runtime on this machine, so every difference in the table is the compiler's doing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import CompileOptions
from edgevlm.commands.evaluate import evaluate_bundle
from edgevlm.commands.output import Speaker
from edgevlm.commands.profile import profile_bundle
from edgevlm.commands.run import run_bundle
from edgevlm.compiler.errors import EdgeError
from edgevlm.models.datasets import load_dataset
from edgevlm.passes.pipelines import Flags
from edgevlm.passes.tokens.schedule import parse_asked

MODEL = "easyvqa-tiny"
QUESTIONS_TO_ASK = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", default="16", help="image tokens to keep of 64, or a share")
    parser.add_argument("--prune", default="dart", help="how they are chosen; edgevlm passes list")
    parser.add_argument("--prune-at", help="where: connector-out, llm:2, ...")
    parser.add_argument("--questions", type=int, default=9673, help="held-out questions to ask")
    parser.add_argument("-n", type=int, default=200, help="timed requests")
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    options = parser.parse_args()
    speaker = Speaker()
    options.out.mkdir(parents=True, exist_ok=True)

    rows = {}
    for name, flags in (
        ("source", Flags()),
        ("compiled", Flags(parse_asked(options.tokens, options.prune, options.prune_at), "w8")),
    ):
        path = options.out / f"{name}.edgevlm"
        with speaker.stages(f"\ncompile {MODEL} for cpu: {name}") as progress:
            built = compile_model(MODEL, CompileOptions("cpu", path, flags, force=True), progress)
        if name == "compiled":
            ask(speaker, path)
        with speaker.bar(f"evaluate {name}") as advance:
            scored = evaluate_bundle(
                path, "easy-vqa", "test", limit=options.questions, advance=advance
            )
        with speaker.bar(f"several shapes, {name}") as advance:
            scenes = evaluate_bundle(
                path, "easy-scenes", "test", limit=options.questions // 5, advance=advance
            )
        timed = profile_bundle(path, n=options.n, warmup=20, bar=speaker.bar)
        rows[name] = {"compile": built, "eval": scored, "scenes": scenes, "profile": timed}
    table(speaker, rows)
    (options.out / "demo.json").write_text(json.dumps(rows, indent=1) + "\n")
    speaker.console().print(f"everything above as data: {options.out / 'demo.json'}")


def ask(speaker: Speaker, path: Path) -> None:
    """A few held-out questions, each about another picture."""
    speaker.console().print(f"\n[bold]ask {path.name} about test images[/bold]")
    for row in load_dataset("easy-vqa", "test", limit=QUESTIONS_TO_ASK).rows:
        found = run_bundle(path, Path(row.image), row.question)
        mark = "right" if found["answer"] == row.answer else f"wrong, it is {row.answer}"
        speaker.console().print(
            f"  {Path(row.image).name:<9}{row.question:<48} {found['answer']:<10} ({mark})"
        )


def table(speaker: Speaker, rows: dict[str, dict[str, Any]]) -> None:
    """One column a model, one row a figure, each with how it is known."""
    figures: list[list[object]] = []

    def figure(
        name: str, read: Callable[[dict[str, Any]], str], how: str = "measured-host"
    ) -> None:
        figures.append([name, *(read(row) for row in rows.values()), how])

    first = rows["source"]
    kinds = first["eval"]["kinds"]
    figure(
        f"accuracy %, {first['eval']['n']} test questions",
        lambda r: f"{100 * r['eval']['accuracy']:.2f}",
    )
    for kind in kinds:
        figure(
            f"  {kind}, {kinds[kind]['n']}",
            lambda r, kind=kind: f"{100 * r['eval']['kinds'][kind]['accuracy']:.2f}",
        )
    figure(
        f"accuracy %, {first['scenes']['n']} of several shapes",
        lambda r: f"{100 * r['scenes']['accuracy']:.2f}",
    )
    figure("ms to first token, p50", lambda r: f"{r['profile']['ttft_ms']:.2f}")
    figure("answers a second, p50", lambda r: f"{r['profile']['answers_per_s']:.0f}")
    figure(
        "image tokens kept",
        lambda r: f"{r['compile']['image_tokens']['kept']} of {r['compile']['image_tokens']['of']}",
        "counted",
    )
    figure("bundle MB", lambda r: f"{r['compile']['bytes'] / 1e6:.2f}", "counted")
    figure("drift of the worst part, SQNR dB", lambda r: f"{_drift(r):.0f}")
    figure("joules an answer", lambda r: _energy(r["profile"]["energy_j_per_answer"]))
    speaker.console().print()
    speaker.table(
        f"{MODEL}: source and compiled, {first['profile']['n']} timed requests",
        ["", *rows, "how"],
        figures,
    )
    a, b = (rows[k] for k in ("source", "compiled"))
    speed = b["profile"]["answers_per_s"] / a["profile"]["answers_per_s"]
    size = b["compile"]["bytes"] / a["compile"]["bytes"]
    speaker.console().print(
        f"compiled: {speed:.2f} x the answers a second, {size:.2f} x the size. Drift compares a "
        "part with the source where its shapes survive, else with its own graph.\n"
        f"energy: {b['profile']['energy_note']}"
    )


def _drift(row: dict[str, Any]) -> float:
    return min(p["drift"]["sqnr_db"] or 0.0 for p in row["compile"]["parts"])


def _energy(joules: float | None) -> str:
    return "null" if joules is None else f"{joules:.4f}"


if __name__ == "__main__":
    try:
        main()
    except EdgeError as error:
        raise SystemExit("\n".join(error.lines())) from None
