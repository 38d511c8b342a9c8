"""What every quantisation scheme costs in answers, against float and ONNX Runtime's own tool.

    python benchmarks/bench_quant.py        writes results/quant.json       (about an hour)

Both bundled models on the whole test split of their data set, read once a scheme. Calibrated on 64
questions of the training split; nothing was chosen on the test split. What is run is the artifact
as `compile` writes it, or what onnxruntime.quantization made of the same float graphs with the same
calibration inputs (ort_static.py). Questions about one picture go together: differences to float
have a sign-flip test over pictures.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_reduction import ask_all, opened, pictures
from ort_static import WAYS, OrtStatic, zero_points
from pairing import against_random
from results import write_result

from edgevlm.commands.quant_table import average_bits, layer_rows
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.cost import count
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.quantised import check_symmetric
from edgevlm.compiler.reference import Reference, observe
from edgevlm.models.answer import Answerer, inputs_of
from edgevlm.models.calibration import calibration_probes
from edgevlm.models.datasets import Dataset, load_dataset
from edgevlm.models.datasets.scoring import Score
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose

MODELS = {"scenes-tiny": "scenes", "easyvqa-tiny": "easy-vqa"}
CALIBRATION = 64
SCHEMES = (
    ("none", "float"), ("w8", "float"), ("w4a16", "float"), ("w8a8", "float"), ("w8a8", "int8"),
    ("w4a8", "float"), ("w4a8:block=32", "float"), ("dasq-w4a8", "float"), ("w3a8", "float"),
    ("dasq-w3a8", "float"), ("mixed:avg=5bit", "float"), ("mixed:avg=4bit", "float"),
)  # fmt: skip


def compiled(
    source: ExportedModel, quant: str, kv: str, calib: str
) -> tuple[ExportedModel, dict[str, Any]]:
    """As `compile` makes it, and what is known of its layers."""
    inputs = [inputs_of(source, p) for p in (source.probes, calibration_probes(calib, source))]
    steps = make_passes(compose("host-cpu", "ort", Flags(quant=quant, kv=kv), source))
    first = next((i for i, s in enumerate(steps) if s.name.startswith("quantize-")), len(steps))
    base, _, before = run_passes(source, steps[:first], inputs[0], calibration=inputs[1])
    model, _, after = run_passes(base, steps[first:], inputs[0], calibration=inputs[1])
    check_symmetric(model)
    rows = layer_rows(base, model, before, after)
    return model, {
        "bits": average_bits(rows) if rows else 32.0,
        "weight_bytes": sum(count(part).weight_bytes for part in model.parts.values()),
        "worst_layer_db": min(
            (r["drift_db"] for r in rows if r["drift_db"] is not None), default=None
        ),
        "zero_points": 0,
    }


def cases(source: ExportedModel, dataset: Dataset) -> list[dict[str, Any]]:
    calib = f"{dataset.name}:{CALIBRATION}"
    store = cache_root() / "quant" / source.source.name
    store.mkdir(parents=True, exist_ok=True)
    rows = []
    for quant, kv in SCHEMES:
        name = quant if kv == "float" else f"{quant}, KV {kv}"
        path = store / f"{name}.json".replace(" ", "-")
        if not path.exists():
            model, facts = compiled(source, quant, kv, calib)
            with tempfile.TemporaryDirectory() as folder:
                right = ask_all(opened(model, Path(folder)), dataset)
            row = {"scheme": name, "by": "edgevlm", **facts, "right": right.tolist()}
            path.write_text(json.dumps(row))
        rows.append(json.loads(path.read_text()))
        print(source.source.name, name, np.mean(rows[-1]["right"]), flush=True)
    base, _ = compiled(source, "none", "float", calib)
    seen = observe(base, _calibration(base, calib))
    for way in WAYS:
        path = store / f"ort-{way}.json"
        if not path.exists():
            path.write_text(json.dumps(_theirs(base, seen, way, dataset)))
        rows.append(json.loads(path.read_text()))
        print(source.source.name, "onnxruntime", way, np.mean(rows[-1]["right"]), flush=True)
    return rows


def _calibration(model: ExportedModel, calib: str) -> list[Any]:
    found = calibration_probes(calib, model)
    return inputs_of(model, found)


def _theirs(base: ExportedModel, seen: Reference, way: str, dataset: Dataset) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        parts = OrtStatic(base, seen, way, Path(folder))
        odd = [zero_points(path)[0] for path in parts.paths.values()]
        answerer = Answerer(base.contract, base.processor, base.tokenizer, parts)
        right = ask_all(answerer, dataset)
    return {"scheme": way, "by": "onnxruntime", "zero_points": sum(odd), "right": right.tolist()}


def main() -> None:
    results = {}
    for name, data in MODELS.items():
        source, dataset = open_source(name), load_dataset(data, "test")
        group = pictures(dataset)
        rows = cases(source, dataset)
        plain = np.array(rows[0]["right"])
        for row in rows:
            right = np.array(row.pop("right"))
            row["score"] = Score(len(right), int(right.sum())).as_json()
            test = against_random(right, [plain, plain], group)
            row["to_float"] = {k: test[k] for k in ("difference", "standard_error", "p")}
        results[name] = {"dataset": data, "split": "test", "rows": rows}
    n = {name: model["rows"][0]["score"]["n"] for name, model in results.items()}
    write_result("quant", {"n": n, "calibration": CALIBRATION, "models": results})


if __name__ == "__main__":
    main()
