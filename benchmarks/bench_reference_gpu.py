"""TensorRT's graphs on a data-centre GPU: real GPU arithmetic and joules, and nothing of a Jetson.

    pip install -e '.[data,torch]' nvidia-ml-py
    python benchmarks/bench_reference_gpu.py             writes results/reference_gpu.json
    python benchmarks/bench_reference_gpu.py --on cpu    tries it all and writes nothing

The artifacts of `edgevlm compile --target jetson` (strongly typed, float16, int8) run by torch on
CUDA: whether a GPU's float16 answers as the host's rounding says it would. Energy is that of the
GPU's board by NVML's counter, over whole answers, idle board taken off. Every figure is labelled
`reference GPU`: another chip, other kernels, another memory than a Jetson's, so none of it is
extrapolated. Where a TensorRT runtime for Python is there, the bundle's own run_on_device.py is
tried once and what it said is recorded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from results import write_result

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.compiler.bundle import Bundle, open_bundle
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.reference import observe
from edgevlm.compiler.weights import load_graph
from edgevlm.devices.power.nvml import Nvml
from edgevlm.models.answer import inputs_of
from edgevlm.models.source import open_source

SCHEMES = ({}, {"quant": "w8"}, {"quant": "w8a8"})
MODELS = ("easyvqa-tiny", "scenes-tiny")
ANSWERS, IDLE_S = 200, 5.0
LIBRARIES = ("tensorrt_rtx", "tensorrt_rtx_bindings", "tensorrt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--answers", type=int, default=ANSWERS)
    args = parser.parse_args()
    import torch

    if args.on == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --on cpu tries the same and writes nothing")
    rows, tried = [], []
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            for options in SCHEMES:
                out = Path(folder, f"{model}-{'-'.join(options.values())}.edgevlm")
                asked = {"payoff": "none", "preflight": "none", "min_sqnr": -100.0, **options}
                compile_model(model, options_of("jetson", out, **asked))
                rows.append(_row(open_bundle(out), model, options, args.on, args.answers))
                print(rows[-1])
                if not tried:
                    tried = [_tried(out, library) for library in LIBRARIES]
    if args.on == "cpu":
        print("nothing was written: this is no reference GPU")
        return
    about = {"gpu": torch.cuda.get_device_name(0), "cuda": torch.version.cuda}
    write_result("reference_gpu", {**about, "how": "reference GPU", "rows": rows, "tried": tried})


def _row(
    bundle: Bundle, model: str, options: dict[str, str], device: str, answers: int
) -> dict[str, Any]:
    from edgevlm.compiler.to_torch.running import TorchParts

    graphs = {a.role: load_graph(bundle.folder / a.file) for a in bundle.manifest.artifacts}
    shown = open_source(model)
    probes = inputs_of(shown)
    host, there = ReferenceParts(graphs), TorchParts(graphs, device)
    seen = observe(shown, probes, host)
    drift = compare_parts(host, there, seen, bundle.manifest.contract.roles)
    ran = observe(shown, probes, there)
    spent, energy = _answered(shown, probes, there, answers)
    return {
        "model": model,
        "scheme": options.get("quant", "fp16"),
        "drift": {role: each.as_json() for role, each in drift.items()},
        "agree": sum(a == b for a, b in zip(ran.answers, seen.answers, strict=True)),
        "probes": len(probes),
        "answer_ms": round(float(np.median(spent)) * 1e3, 3),
        "answers": len(spent),
        "energy": energy,
        "how": "reference GPU" if device == "cuda" else "torch on this CPU",
    }


def _answered(model: Any, probes: Any, parts: Any, answers: int) -> tuple[list[float], Any]:
    """Seconds of each, and joules of one above an idle board, where there is a counter."""
    meter, spent = Nvml(), []
    why = meter.available()
    idle = None
    if why is None:
        meter.start()
        began = perf_counter()
        while perf_counter() - began < IDLE_S:
            pass
        idle = meter.stop()
        meter.start()
    for i in range(answers):
        start = perf_counter()
        observe(model, [probes[i % len(probes)]], parts)
        spent.append(perf_counter() - start)
    if why is not None:
        return spent, {"joules": None, "reason": why}
    used = meter.stop()
    watts = idle.joules / idle.seconds
    return spent, {
        "joules": round((used.joules - watts * used.seconds) / answers, 4),
        "board_watts": round(used.joules / used.seconds, 1),
        "idle_watts": round(watts, 1),
        "source": "nvml",
    }


def _tried(bundle: Path, library: str) -> dict[str, Any]:
    """The bundle's own programs with one library, once: whether it runs on this GPU."""
    said = []
    for script in ("build_on_device.py", "run_on_device.py"):
        call = [sys.executable, str(bundle / script), "--library", library, "--any-device"]
        done = subprocess.run(call, capture_output=True, text=True, timeout=600)
        lines = (done.stderr or done.stdout).strip().splitlines()
        said.append({"script": script, "status": done.returncode, "said": lines[-3:]})
        if done.returncode:
            break
    return {"library": library, "steps": said}


if __name__ == "__main__":
    main()
