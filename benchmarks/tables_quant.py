"""What quantisation costs: answers on whole test splits, perplexity, a real encoder's map."""

from __future__ import annotations

from typing import Any

import numpy as np
from agreement import bootstrap
from page import grid, load, provenance

__all__ = ["answers", "encoder_map", "perplexity"]

BY = {"edgevlm": "", "onnxruntime": "onnxruntime.quantization, "}


def answers() -> str:
    result = load("quant")
    text = [
        "## Quantisation: answers",
        "Every scheme of [quantisation](quantisation.md) on the whole test split, as `compile` "
        f"writes it, calibrated on {result['calibration']} questions of the training split; beside "
        "it what onnxruntime.quantization makes of the same float graphs with the same inputs: as "
        "it comes (every op, a scale a tensor), and products alone with a scale a channel. "
        "difference: points to float, p by flipping signs over pictures. No scheme of ours has a "
        "zero point that is not 0 in the compiler's graphs.",
    ]
    for name, model in result["models"].items():
        rows = [
            [
                f"{BY[r['by']]}`{r['scheme']}`",
                f"{r['bits']:.2f}" if "bits" in r else "",
                f"{r['weight_bytes'] / 1e6:.2f}" if "weight_bytes" in r else "",
                f"{100 * r['score']['accuracy']:.2f}",
                f"{100 * r['to_float']['difference']:+.2f}",
                f"{r['to_float']['p']:.3f}",
                r["zero_points"],
            ]
            for r in model["rows"]
        ]
        head = ["scheme", "bits", "weights MB", "right %", "difference", "p", "zero points not 0"]
        n = model["rows"][0]["score"]["n"]
        text += [f"`{name}` on {model['dataset']}, {model['split']}, n = {n}:", grid(head, rows)]
    return "\n\n".join([*text, provenance(result)])


def perplexity() -> str:
    result = load("perplexity")
    base = np.array(result["rows"][0]["losses"])
    rows = []
    for r in result["rows"]:
        losses = np.array(r["losses"])
        low, high = bootstrap(losses - base)
        rows.append(
            [
                r["scheme"],
                f"{r['bits']:.2f}",
                f"{np.exp(losses.mean()):.2f}",
                f"{np.exp((losses - base).mean()):.3f} [{np.exp(low):.3f}-{np.exp(high):.3f}]",
                f"{r['seconds']:.0f}",
            ]
        )
    head = ["weights", "bits", "perplexity", "times float [95 %]", "s to round"]
    return "\n\n".join(
        [
            "## Quantisation: perplexity of a language model",
            f"{result['model']} on {result['text']} ({result['package']}), {result['n']} "
            f"windows of {result['tokens']} tokens; calibrated on {result['calibration_windows']} "
            f"windows of {result['calibration_text']}. Weights alone are rounded, the head too, "
            "and activations stay float; w8a8 rounds inputs of products to int8, a static scale a "
            "tensor, with SmoothQuant before or without. Bits count scales (float32) and outliers "
            "with their places. A scale an output channel, or a block where it says so; nearest is "
            "by least square error. Intervals: bootstrap over windows, paired.",
            grid(head, rows),
            provenance(result),
        ]
    )


def encoder_map() -> str:
    result = load("map")
    rows = [
        [
            f"{BY[r['by']]}`{r['scheme']}`",
            f"{r['bits']:.2f}" if "bits" in r else "",
            _spread(r["correlation"]),
            _spread(r["iou"]),
        ]
        for r in result["rows"]
    ]
    return "\n\n".join(
        [
            "## Quantisation: the map of a real ViT-S/14",
            f"{result['package']}: the quantised model's map against the float model's on "
            f"{result['n']} pictures, calibrated on others: Pearson correlation, and the "
            "overlap of the brightest tenth; mean and standard deviation over pictures.",
            grid(["scheme", "bits", "correlation", "IoU"], rows),
            provenance(result),
        ]
    )


def _spread(found: dict[str, Any]) -> str:
    return f"{found['mean']:.4f} +- {found['sd']:.4f}"
