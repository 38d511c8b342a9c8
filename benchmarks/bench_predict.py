"""How wrong a prediction is where it can be checked: this machine, one core.

For each bundle the stages by the formulas of docs/prediction.md with this machine's measured rates,
against their measured times, `--rounds` times anew; and the memory that a process takes to open the
bundle and run every part once, against what was counted.

python benchmarks/bench_predict.py      writes benchmarks/results/predict.json (needs the torch
                                        extra: the full-size ViT has random weights)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from results import write_result

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.predict import graphs_of
from edgevlm.commands.predict_host import check_here
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.memory import need_of
from edgevlm.runtimes.ort.host_rates import host_rates

SCHEMES = ("none", "w8a8")
BUNDLED = ("easyvqa-tiny", "scenes-tiny", "fashion-vit")
VIT = "ViT-B/16, 224 px"

#: a process that opens a bundle and runs its parts; prints the bytes that it took for that
TAKEN = """
import re, sys
from pathlib import Path
from edgevlm.commands.predict_host import zeros_of
from edgevlm.compiler.bundle import open_bundle
from edgevlm.runtimes import find_runtime

def resident(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def run(bundle):
    contract = bundle.manifest.contract
    parts = find_runtime(bundle.manifest.target.runtime).open(bundle)
    for role in contract.roles:
        parts.call(role, zeros_of(contract, role))
    return parts

kept = run(open_bundle(Path(sys.argv[1])))  # loads the library, and is there before
before = resident("RssAnon")
kept = kept, run(open_bundle(Path(sys.argv[2])))
print(resident("RssAnon") - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="")
    asked = parser.parse_args()
    cores = os.sched_getaffinity(0)
    rows, rates = [], []
    with tempfile.TemporaryDirectory() as scratch:
        bundles = list(compiled(Path(scratch)))
        os.sched_setaffinity(0, {min(cores)})
        for model, scheme, path in bundles:
            found = [checked(path) for _ in range(asked.rounds)]
            rates += [each["rates"] for each in found]
            row = {"model": model, "scheme": scheme, "stages": stages_of(found)}
            rows.append(row | {"memory": memory_of(path, bundles[0][2])})
            print(json.dumps(rows[-1]), flush=True)
        os.sched_setaffinity(0, cores)  # the result says what machine it is
    n = min(stage["n"] for row in rows for stage in row["stages"].values())
    write_result(
        "predict",
        {
            "n": n,
            "rounds": asked.rounds,
            "threads": 1,
            "note": asked.note,
            "rates": rates_of(rates),
            "rows": rows,
        },
    )


def compiled(scratch: Path) -> Iterator[tuple[str, str, Path]]:
    """Model, scheme and bundle; all products of one thread."""
    sources = {name: name for name in BUNDLED} | {VIT: str(vit_b16(scratch))}
    for name, source in sources.items():
        for scheme in SCHEMES:
            out = scratch / f"{len(list(scratch.iterdir()))}.edgevlm"
            options = options_of("cpu", out, quant=scheme, payoff="none")
            compile_model(source, options)
            yield name, scheme, out


def vit_b16(folder: Path) -> Path:
    """An ONNX file of the architecture with random weights: what it says does not matter here."""
    import torch
    import transformers

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            config = transformers.ViTConfig(num_labels=1000, attn_implementation="sdpa")
            self.vit = transformers.ViTForImageClassification(config).eval()

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.vit(pixel_values).logits

    path = folder / "vit.onnx"
    torch.onnx.export(
        Logits().eval(),
        (torch.zeros(1, 3, 224, 224),),
        path,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamo=True,
        opset_version=23,
        verbose=False,
    )
    return path


def checked(path: Path) -> dict[str, Any]:
    """What profile prints as `this_machine`, with rates that are measured anew."""
    host_rates.cache_clear()
    bundle = open_bundle(path)
    found, reason = check_here(bundle, graphs_of(bundle))
    assert found is not None, reason
    return found


def stages_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and the range of the ratio."""
    made = {}
    for stage in found[0]["stages"]:
        rows = [each["stages"][stage] for each in found]
        ratios = sorted(row["ratio"] for row in rows)
        made[stage] = {
            "predicted_ms": median(row["predicted_ms"] for row in rows),
            "measured_ms": median(row["measured_ms"] for row in rows),
            "ratio": median(ratios),
            "least": ratios[0],
            "most": ratios[-1],
            "n": sum(row["n"] for row in rows),
        }
    return made


def rates_of(rates: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Median and range of each rate over all rounds."""
    made = []
    for i, fact in enumerate(rates[0]):
        values = sorted(each[i]["value"] for each in rates)
        made.append(
            {
                "what": fact["what"],
                "unit": fact["unit"],
                "median": median(values),
                "least": values[0],
                "most": values[-1],
            }
        )
    return made


def memory_of(path: Path, warm: Path) -> dict[str, int]:
    """Bytes counted, and bytes taken by a process that had opened another bundle before."""
    bundle = open_bundle(path)
    need = need_of(graphs_of(bundle), bundle.manifest.contract, folds=True)
    call = [sys.executable, "-c", TAKEN, str(warm), str(path)]
    taken = int(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    kv = need.kv  # its caller's, and on zeros nobody keeps any
    return {
        "least_bytes": need.total.least - kv,
        "most_bytes": need.total.most - kv,
        "taken_bytes": taken,
    }


if __name__ == "__main__":
    main()
