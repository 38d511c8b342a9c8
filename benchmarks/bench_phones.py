"""Every path to a phone: what the emitted files compute, how large they are, how right they stay.

    pip install -e '.[data,executorch,coreml,coreai]'
    python benchmarks/bench_phones.py        writes results/phones.json

Each row is a bundle of `edgevlm compile`, calibrated on the training split where anything is
fitted. Questions are those of the test split: all of them where the emitted file runs by itself
(XNNPACK, Core AI), `--evaluated` of them through our evaluators (Core ML, Vulkan). Times of
XNNPACK are against ONNX Runtime's of the same graphs, turn about in one run: ratios, as the machine
is shared. No other time is told: an iPhone is not this machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from results import RESULTS, write_result

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.evaluate import evaluate_bundle
from edgevlm.compiler.bundle import Bundle, open_bundle
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.generate import Cache
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.coreml.mil_functions import read_functions
from edgevlm.runtimes.coreml.mlpackage import open_mlpackage

#: (path, target, options of compile)
PATHS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("xnnpack", "pixel-9", {}),
    ("xnnpack", "pixel-9", {"quant": "w8a8"}),
    ("xnnpack", "pixel-9", {"quant": "8da8w"}),
    ("xnnpack", "pixel-9", {"quant": "8da4w"}),
    ("vulkan", "pixel-9", {"toolchain": "vulkan"}),
    ("coreml", "iphone", {"os": "18"}),
    ("coreml", "iphone", {"os": "18", "layout": "channels"}),
    ("coreml", "iphone", {"os": "18", "quant": "w8"}),
    ("coreml", "iphone", {"os": "18", "quant": "w8", "layout": "channels"}),
    ("coreml", "iphone", {"os": "18", "quant": "w4a16"}),
    ("coreml", "iphone", {"os": "18", "quant": "lut4"}),
    ("coreml", "iphone", {"os": "18", "quant": "w8a8"}),
    ("coreai", "iphone", {"os": "27"}),
    ("coreai", "iphone", {"os": "27", "quant": "w8"}),
)
#: bundled model -> (data set to judge on, what ranges are fitted to)
MODELS = {
    "easyvqa-tiny": ("easy-vqa", "easy-vqa:64"),
    "scenes-tiny": ("scenes", "scenes:64"),
}
EVALUATED = ("coreml", "vulkan")  # run by evaluators of ours, which take their time
ROUNDS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluated", type=int, default=500, help="questions to the evaluator")
    parser.add_argument("--limit", type=int, help="questions to the others; all of the split")
    parser.add_argument("--only", help="one model; the rows of others stay as they are")
    parser.add_argument("--path", help="one path; the rows of others stay as they are")
    parser.add_argument("--scheme", help="one scheme; the rows of others stay as they are")
    parser.add_argument("--times", action="store_true", help="XNNPACK's alone, of rows there are")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for model, (dataset, calib) in MODELS.items():
            if args.only not in (None, model):
                continue
            base = _compiled(home, model, "cpu", {})[0]
            right: dict[int | None, Any] = {}
            for path, target, options in PATHS:
                scheme = scheme_of(options)
                if args.path not in (None, path) or args.scheme not in (None, scheme):
                    continue
                if args.times:
                    rows += _timed_again(home, (model, path, target), options, calib, base)
                    _write(rows)
                    continue
                limit = args.evaluated if path in EVALUATED else args.limit
                if limit not in right:
                    right[limit] = _accuracy(base, dataset, limit)
                rows.append(
                    _row(home, (model, path, target), options, calib)
                    | {"dataset": dataset, "source_accuracy": right[limit]}
                )
                bundle = rows[-1].pop("_bundle")
                rows[-1]["accuracy"] = _accuracy(bundle, dataset, limit)
                if path == "xnnpack":
                    rows[-1]["times"] = _times(open_bundle(bundle), open_bundle(base))
                print(json.dumps({k: rows[-1][k] for k in SHOWN if k in rows[-1]}), flush=True)
                _write(rows)


def _timed_again(
    home: Path, which: tuple[str, str, str], options: dict[str, str], calib: str, base: Path
) -> list[dict[str, Any]]:
    """The rows there are of it, with times of now: those want a machine that does nothing else."""
    model, path, target = which
    asked = (model, path, scheme_of(options), layout_of(options))
    found = [row for row in _kept() if tuple(row[key] for key in KEYS) == asked and "times" in row]
    for row in found:
        bundle, _ = _compiled(home, model, target, options | fitted_to(options, calib))
        row["times"] = _times(open_bundle(bundle), open_bundle(base))
        print(json.dumps({k: row[k] for k in SHOWN}), flush=True)
    return found


def _write(made: list[dict[str, Any]]) -> None:
    """These rows, and others as they stood."""
    rows = made + [row for row in _kept() if not any(_same(row, other) for other in made)]
    order = [(path, scheme_of(options), layout_of(options)) for path, _, options in PATHS]
    rows.sort(key=lambda row: (row["model"], order.index(tuple(row[key] for key in KEYS[1:]))))
    write_result("phones", {"library": "executorch", "n": ROUNDS, "rows": rows})


KEYS = ("model", "path", "scheme", "layout")
SHOWN = (*KEYS, "bundle_mb", "accuracy", "source_accuracy", "times")


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a[key] == b[key] for key in KEYS)


def scheme_of(options: dict[str, str]) -> str:
    return options.get("quant", "none")


def fitted_to(options: dict[str, str], calib: str) -> dict[str, str]:
    return {"calib": calib} if scheme_of(options) in ("w8a8", "w4a16", "8da4w") else {}


def layout_of(options: dict[str, str]) -> str:
    return options.get("layout", "tokens")


def _kept() -> list[dict[str, Any]]:
    file = RESULTS / "phones.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return [{"layout": layout_of({})} | row for row in rows]


def _row(
    home: Path, which: tuple[str, str, str], options: dict[str, str], calib: str
) -> dict[str, Any]:
    model, path, target = which
    quant = scheme_of(options)
    start = perf_counter()
    out, refused = _compiled(home, model, target, options | fitted_to(options, calib))
    bundle = open_bundle(out)
    record = bundle.record()
    home_of = out / bundle.manifest.target.runtime
    return {
        "_bundle": out,
        "model": model,
        "path": path,
        "target": target,
        "scheme": quant,
        "layout": layout_of(options),
        "refused": refused,
        "seconds": round(perf_counter() - start, 1),
        "bundle_mb": round(sum(p.stat().st_size for p in home_of.rglob("*")) / 1e6, 2),
        "parts": record["parts"],
        "answers": record["answers"],
        "placed": _placed(bundle),
        **({"ops": _ops(out / "coreml/model.mlpackage")} if path == "coreml" else {}),
    }


def _ops(package: Path) -> dict[str, dict[str, int]]:
    """Of each function: how many ops of each type, constants left out."""
    functions = read_functions(open_mlpackage(package))
    return {name: dict(Counter(op.type for op in f.ops)) for name, f in functions.items()}


def _placed(bundle: Bundle) -> dict[str, Any]:
    """Of each method: how many of its ops are delegated, and which are not."""
    found = {}
    for artifact in bundle.manifest.artifacts:
        told = artifact.settings.get("placed")
        if told:
            found[artifact.role] = {
                "delegates": told["delegates"],
                "delegated": sum(told["delegated"].values()),
                "left": told["left"],
            }
    return found


def _compiled(
    home: Path, model: str, target: str, options: dict[str, str]
) -> tuple[Path, str | None]:
    name = "-".join([model, target, *options.values()]).replace(":", "_")
    out, refused = home / f"{name[:80]}.edgevlm", None
    asked = {"payoff": "none", "force": True, **options}
    try:
        compile_model(model, options_of(target, out, **asked))
    except JobFault as fault:  # rounded too far on some probe: how right it is all the same
        if fault.code != "EV206":
            raise
        refused = f"{fault.what}: {fault.why}"
        compile_model(model, options_of(target, out, **asked, min_sqnr=-100.0))
    return out, refused


def _accuracy(bundle: Path, dataset: str, limit: int | None) -> dict[str, Any]:
    report = evaluate_bundle(bundle, dataset, "test", limit=limit)
    return {key: report[key] for key in ("n", "accuracy")}


def _times(ours: Bundle, theirs: Bundle) -> dict[str, Any]:
    """ms of a call of every part, turn about; ours by XNNPACK, theirs by ONNX Runtime."""
    sides = [find_runtime(b.manifest.target.runtime).open(b) for b in (ours, theirs)]
    contract, found = theirs.manifest.contract, {}
    for role in contract.roles:
        feeds = [_feeds(contract, side, role) for side in sides]
        spent = _in_turns(sides, role, feeds)
        ratio = spent[0] / spent[1]
        found[role] = {
            "ms": round(float(np.median(spent[0])), 3),
            "onnxruntime_ms": round(float(np.median(spent[1])), 3),
            "ratio": round(float(np.median(ratio)), 3),
            "low": round(float(np.percentile(ratio, 25)), 3),
            "high": round(float(np.percentile(ratio, 75)), 3),
            "n": ROUNDS,
        }
    return found


def _feeds(contract: Contract, side: PartCaller, role: Role) -> dict[str, Any]:
    """Zeros; of a step the caches that the token loop would feed this side."""
    feeds = {p.name: _zeros(p) for p in contract.inputs(role)}
    if role != "decode":
        return feeds
    prompt = side.call("prefill", _feeds(contract, side, "prefill"))
    cache = getattr(side, "cache", Cache)(contract, prompt)
    return feeds | cache.feeds(contract.prefill_length)


def _in_turns(
    sides: Sequence[PartCaller], role: Role, feeds: Sequence[dict[str, Any]]
) -> np.ndarray:
    """ms [side, round]; who begins changes from round to round."""
    spent = np.zeros((2, ROUNDS))
    for side, given in zip(sides, feeds, strict=True):
        for _ in range(5):
            side.call(role, given)
    for i in range(ROUNDS):
        for j in (0, 1) if i % 2 else (1, 0):
            start = perf_counter()
            sides[j].call(role, feeds[j])
            spent[j, i] = (perf_counter() - start) * 1e3
    return spent


def _zeros(port: Any) -> np.ndarray:
    kind = {"FLOAT": np.float32, "INT64": np.int64, "BOOL": bool, "INT8": np.int8}[port.dtype]
    return np.zeros(port.shape, kind)


if __name__ == "__main__":
    main()
