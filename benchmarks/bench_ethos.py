"""Vela's estimates for an Ethos-U85: before and after the rewrites, and with fewer image tokens.

    edgevlm doctor --install ethos;  pip install -e '.[data,torch]'
    python benchmarks/bench_ethos.py                    writes results/ethos.json
    python benchmarks/bench_ethos.py --only bundles     the last part alone; "bundle NAME": of one

before    the graph as other targets have it: fused q, k and v, patches by a convolution of pixels,
          numbers of the caller on the NPU
after     behind the passes of `--target ethos-u85-256`, cut where the host begins
budgets   after, with all image tokens, half and a quarter of them
bundles   compiled as anybody would, and asked test questions, answered by the reference model

Cycles are Vela's (estimated-vela): nothing ran on an NPU. dB are those of Arm's reference model, on
the same TOSA graph, to the float graph; of the parts' worst output over a few inputs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from results import RESULTS, write_result

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.evaluate import evaluate_bundle
from edgevlm.compiler.attention import plain_attention
from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import measure
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.pieces import Piece
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.workshop.arrays import read_arrays
from edgevlm.models.answer import inputs_of
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import Asked
from edgevlm.passes.tokens.sites import parse_site
from edgevlm.runtimes.executorch.ethos.cut import cut, runs_of, without_padding
from edgevlm.runtimes.executorch.ethos.estimates import estimate_of
from edgevlm.runtimes.executorch.ethos.make import asked_of, run_lowering

TARGET = "ethos-u85-256"
SAMPLES, CHECKS = 12, 4
#: (model, part, form, share of image tokens, where they are dropped)
ROWS: tuple[tuple[str, Role, str, str, str], ...] = (
    ("easyvqa-tiny", "vision", "before", "100%", ""),
    ("easyvqa-tiny", "vision", "after", "100%", ""),
    ("easyvqa-tiny", "prefill", "before", "100%", ""),
    ("easyvqa-tiny", "prefill", "after", "100%", ""),
    ("easyvqa-tiny", "prefill", "after", "50%", "connector-out"),
    ("easyvqa-tiny", "prefill", "after", "25%", "connector-out"),
    ("fashion-vit", "vision", "before", "100%", ""),
    ("fashion-vit", "vision", "after", "100%", ""),
    ("fashion-vit", "vision", "after", "50%", "vision:1"),
    ("fashion-vit", "vision", "after", "25%", "vision:1"),
)
#: model -> (data set, questions of its test split)
BUNDLES = {"fashion-vit": ("fashion-mnist", 200), "easyvqa-tiny": ("easy-vqa", 200)}
KEYS = ("model", "part", "form", "tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="rows whose model, part or form is this; others are kept")
    args = parser.parse_args()
    rows, bundles = _stored("rows"), _stored("bundles")
    for row in ROWS:
        if args.only and args.only not in row:
            continue
        made = _row(*row)
        print(json.dumps({k: v for k, v in made.items() if k != "ops"}), flush=True)
        rows = [r for r in rows if any(r[k] != made[k] for k in KEYS)] + [made]
        order = [(r[0], r[1], r[2], r[3]) for r in ROWS]
        rows.sort(key=lambda r: order.index(tuple(r[k] for k in KEYS)))
        _write(rows, bundles)
    for name in BUNDLES:
        if args.only in (None, "bundles", f"bundle {name}"):
            made = _bundle(name)
            print(json.dumps(made), flush=True)
            bundles = [row for row in bundles if row["model"] != name] + [made]
            _write(rows, bundles)


def _row(name: str, role: Role, form: str, share: str, where: str) -> dict[str, Any]:
    model, seen = _model(name, form, share, where)
    part = model.parts[role]
    feeds = [without_padding(each) for each in seen.fed(role)[:SAMPLES]]
    pieces = cut(role, part)
    if form == "before":
        pieces = [Piece(role, "device", plain_attention(part))]
    runs = runs_of(pieces, feeds)
    few = {n: dataclasses.replace(r, inputs=r.inputs[:CHECKS]) for n, r in runs.items()}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        as_is = form == "before"
        asked = [asked_of(p, runs[p.name], few[p.name], TARGET, work, as_is) for p in pieces]
        made = run_lowering(asked, TARGET, work)
        found = [_piece(piece, made[piece.name], runs[piece.name], work) for piece in pieces
                 if piece.runs == "device"]  # fmt: skip
    ops: dict[str, int] = {}
    for each in found:
        for op, cycles in each["ops"].items():
            ops[op] = ops.get(op, 0) + cycles
    return {
        "model": name, "part": role, "form": form, "tokens": share, "at": where,
        **{key: sum(each[key] for each in found) for key in ("cycles", "ms", "macs", "delegates")},
        "sram_kib": max(each["sram_kib"] for each in found),
        "outside": {op: n for each in found for op, n in each["outside"].items()},
        "sqnr_db": round(min(each["sqnr_db"] for each in found), 1),
        "ops": dict(sorted(ops.items(), key=lambda row: -row[1])),
        "n": CHECKS,
    }  # fmt: skip


def _model(name: str, form: str, share: str, where: str) -> tuple[Any, Reference]:
    source = open_source(name, None)
    asked = Asked((share,), "stride", {}, (parse_site(where),)) if where else None
    recipe = compose(TARGET, "ort" if form == "before" else "ethos", Flags(asked), source)
    model, _, seen = run_passes(source, make_passes(recipe), probes=inputs_of, min_sqnr=-100.0)
    return model, seen


def _piece(piece: Piece, row: dict[str, Any], runs: Any, work: Path) -> dict[str, Any]:
    tables = [(work / each["summary"], work / each["layers"]) for each in row["delegates"]]
    found = estimate_of(piece.name, piece.name, tables)
    rows = read_arrays(work / row["checks"])
    db = [
        measure(np.stack([runs.outputs[i][at] for i in range(CHECKS)]),
                np.stack([rows[f"tosa.{i}.{at}"] for i in range(CHECKS)]), piece.name).sqnr_db
        for at in range(len(piece.outputs))
    ]  # fmt: skip
    return {
        "cycles": found.cycles,
        "ms": round(found.ms, 4),
        "macs": found.macs,
        "delegates": len(tables),
        "sram_kib": found.most(["sram"]) // 1024,
        "outside": {op: each["nodes"] for op, each in row["outside"].items()},
        "sqnr_db": min(db),
        "ops": found.by_op(),
    }


def _bundle(name: str) -> dict[str, Any]:
    dataset, n = BUNDLES[name]
    with tempfile.TemporaryDirectory() as folder:
        out, base = Path(folder) / "npu.edgevlm", Path(folder) / "base.edgevlm"
        start = perf_counter()
        report = compile_model(name, options_of(TARGET, out))
        seconds = perf_counter() - start
        compile_model(name, options_of("cpu", base, payoff="none"))
        right, source = (
            evaluate_bundle(each, dataset, "test", limit=n)["accuracy"] for each in (out, base)
        )
        return {
            "model": name,
            "seconds": round(seconds),
            "parts": {part["role"]: part["drift"]["sqnr_db"] for part in report["parts"]},
            "on_host": report["preflight"]["odd"],
            "ms": {part["piece"]: part["ms"] for part in report["preflight"]["parts"]},
            "programs_mb": round(sum(p.stat().st_size for p in out.rglob("*.pte")) / 1e6, 2),
            "dataset": dataset,
            "n": n,
            "accuracy": right,
            "source_accuracy": source,
        }


def _write(rows: list[dict[str, Any]], bundles: list[dict[str, Any]]) -> None:
    told = {"how": "estimated-vela", "target": TARGET, "n": CHECKS}
    write_result("ethos", told | {"rows": rows, "bundles": bundles})


def _stored(key: str) -> list[dict[str, Any]]:
    file = RESULTS / "ethos.json"
    return json.loads(file.read_text()).get(key, []) if file.exists() else []


if __name__ == "__main__":
    main()
