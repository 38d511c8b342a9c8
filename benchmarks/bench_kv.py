"""What int8 KV caches cost and save on the CPU: bytes, answers, logits, ms a step of decode.

    python benchmarks/bench_kv.py        writes results/kv.json        (some minutes)

Float against int8 caches, all else equal: both bundled models, float and `w8a8`, all tokens and
pruned. Scales are fitted to 64 questions of the training split, and accuracy is counted on 2000 of
the same split: nothing here looks at a test split. Answers of these models have one or two tokens,
of which the first never sees a cache, so that both are also made to say 16 tokens, and the logits
of every step are compared while the words before it are the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_reduction import ask_all, opened
from results import write_result

from edgevlm.compiler.drift import measure
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import Trace, generate
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.devices.stats import middle
from edgevlm.models.answer import Answerer, inputs_of
from edgevlm.models.calibration import calibration_probes
from edgevlm.models.datasets import Dataset, load_dataset
from edgevlm.models.source import SourceOptions, open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked

MODELS = {"easyvqa-tiny": "easy-vqa", "scenes-tiny": "scenes"}
CASES = ((None, "none"), (None, "w8a8"), ("25%", "none"))
SITE = "llm:1"
CALIBRATION, QUESTIONS, SPOKEN, STEPS, TIMED = 64, 2000, 48, 16, 200


def main() -> None:
    rows = []
    for name, dataset in MODELS.items():
        source = open_source(name, SourceOptions())
        asked = load_dataset(dataset, "train", limit=QUESTIONS)
        calibration = calibration_probes(f"{dataset}:{CALIBRATION}", source)
        for tokens, quant in CASES:
            rows.append(_case(source, asked, calibration, tokens, quant))
            print(rows[-1], flush=True)
    write_result(
        "kv",
        {
            "calibration": CALIBRATION,
            "questions": QUESTIONS,
            "split": "train",
            "spoken": SPOKEN,
            "steps": STEPS,
            "n": TIMED,
            "rows": rows,
        },
    )


def _case(
    source: ExportedModel, asked: Dataset, calibration: Any, tokens: str | None, quant: str
) -> dict[str, Any]:
    reduction = parse_asked(tokens, "dart", SITE) if tokens else None
    inputs = [inputs_of(source, probes) for probes in (source.probes, calibration)]
    models, drift = {}, {}
    for kv in ("float", "int8"):
        passes = make_passes(compose("host-cpu", "ort", Flags(reduction, quant, kv), source))
        models[kv], record, _ = run_passes(source, passes, inputs[0], calibration=inputs[1])
        drift = record[-1].check.drift if kv == "int8" else {}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        sides = {
            kv: opened(model, Path(folder))
            for (kv, model), folder in zip(models.items(), (one, two), strict=True)
        }
        right = {kv: ask_all(side, asked) for kv, side in sides.items()}
        spoken = [_spoken(sides, row) for row in asked.rows[:: len(asked.rows) // SPOKEN][:SPOKEN]]
        times = _decode(sides, asked)
    logits = [db for each in spoken for db in each]
    return {
        "model": source.source.name,
        "tokens": tokens,
        "site": SITE if tokens else None,
        "quant": quant,
        "kv_bytes": {kv: m.contract.kv_bytes for kv, m in models.items()},
        "cache_db": round(drift["prefill"].sqnr_db, 1),
        "accuracy": {kv: float(np.mean(r)) for kv, r in right.items()},
        "otherwise": int((right["float"] != right["int8"]).sum()),
        "logits_db": {"median": float(np.median(logits)), "worst": min(logits)},
        "same_steps": len(logits) / (len(spoken) * (STEPS - 1)),
        "decode_ms": {kv: middle(t).median for kv, t in times.items()},
        "decode_ratio": vars(
            middle([b / a for a, b in zip(times["float"], times["int8"], strict=True)])
        ),
    }


def _spoken(sides: dict[str, Answerer], row: Any) -> list[float]:
    """dB of the logits of every step behind the first, as long as the words are the same."""
    said, seen = {}, {}
    for kv, side in sides.items():
        seen[kv] = []
        said[kv] = list(_speak(side, row, STEPS, on_logits=seen[kv].append))
    same = next((i for i, (a, b) in enumerate(zip(*said.values(), strict=True)) if a != b), STEPS)
    pairs = list(zip(*seen.values(), strict=True))[1 : same + 1]
    return [measure(a, b, "logits").sqnr_db for a, b in pairs]


def _decode(sides: dict[str, Answerer], asked: Dataset) -> dict[str, list[float]]:
    """Median ms a step of so many requests, the two models in turns."""
    times: dict[str, list[float]] = {kv: [] for kv in sides}
    for i in range(-5, TIMED):
        order = list(sides.items())
        for kv, side in order if i % 2 else reversed(order):
            trace = Trace()
            tuple(_speak(side, asked.rows[i % SPOKEN], STEPS, trace=trace))
            if i >= 0:
                times[kv].append(1000 * float(np.median(trace.seconds["decode"])))
    return times


def _speak(side: Answerer, row: Any, steps: int, **how: Any) -> Any:
    prompt = side.prompt(row.question)
    words = (prompt.before, prompt.after, ())
    return generate(side.contract, side.parts, side.look(row.rgb), *words, max_new=steps, **how)


if __name__ == "__main__":
    main()
