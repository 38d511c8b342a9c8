"""What a token budget costs and buys: accuracy and time against K, for the default and its floor.

Every method, against random and over both bundled models: bench_reduction.py.

The test split of easy-VQA has one shape a picture, so a few tokens are enough; easy-scenes has up
to three, so that dropped tokens show. Nothing is tuned here: K and the method are all that varies.

    python benchmarks/bench_tokens.py       writes benchmarks/results/tokens.json  (a few minutes)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from results import write_result

from edgevlm.commands.compile import CompileOptions, compile_model
from edgevlm.commands.evaluate import evaluate_bundle
from edgevlm.commands.profile import profile_bundle
from edgevlm.passes.pipelines import Flags
from edgevlm.passes.tokens.schedule import parse_asked

BUDGETS = (4, 8, 16, 32)
METHODS = ("stride", "dart")
TIMED = 300


def main() -> None:
    cases = [("all", Flags()), ("all", Flags(quant="w8"))]
    cases += [
        (name, Flags(parse_asked(str(k), name, None), "w8")) for k in BUDGETS for name in METHODS
    ]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, flags in cases:
            path = Path(scratch) / "b.edgevlm"
            options = CompileOptions("cpu", path, flags, force=True, payoff="none")
            built = compile_model("easyvqa-tiny", options)
            single = evaluate_bundle(path, "easy-vqa", "test")
            several = evaluate_bundle(path, "easy-scenes", "test")
            timed = profile_bundle(path, n=TIMED, warmup=20)
            rows.append(
                {
                    "select": name,
                    "quant": flags.quant,
                    "kept": built["image_tokens"]["kept"],
                    "bundle_mb": round(built["bytes"] / 1e6, 3),
                    "easy_vqa": single["overall"],
                    "easy_vqa_kinds": single["kinds"],
                    "easy_scenes": several["overall"],
                    "easy_scenes_kinds": several["kinds"],
                    "prefill_macs": next(
                        p["macs"] for p in built["parts"] if p["role"] == "prefill"
                    ),
                    "connector_p50_ms": timed["stages"]["connector"]["p50_ms"],
                    "prefill_p50_ms": timed["stages"]["prefill"]["p50_ms"],
                    "end_to_end_p50_ms": timed["stages"]["end_to_end"]["p50_ms"],
                }
            )
            print(name, flags, f"{single['accuracy']:.4f} {several['accuracy']:.4f}", flush=True)
    write_result("tokens", {"timed": TIMED, "rows": rows})


if __name__ == "__main__":
    main()
