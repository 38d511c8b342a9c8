"""DASQ against the best asymmetric grid, on the weights of a text recogniser and of a detector.

    pip install --no-deps rapidocr-onnxruntime==1.4.4
    pip install matplotlib
    python benchmarks/bench_ocr.py        writes results/ocr.json   (about 20 minutes)

Weights: the error of every layer, relative to its own squares. Text: lines drawn with Pillow, read
by the float model and by the same graph with rounded weights. Only weights are rounded, activations
stay float, nothing is calibrated. Depthwise convolutions are symmetric int8 in every way. Which
parts are rounded was settled on lines of another seed: with every layer at 3 bits no way reads
anything, so a second part rounds the MatMuls alone, and has the convolutions at int8. There the
classifier's channel of CTC's blank decides: a third part has that one channel of 6625 at int8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from agreement import against, agreement
from ocr_lines import FONTS, Reader, digest, draw_lines
from ocr_model import DETECTOR, PACKAGE, RECOGNISER, File, Layer, layers, load, macs, replaced
from ocr_weights import WAYS, asymmetric, int8, relative_error, scan
from results import write_result

BITS = (4, 3)
LINES, SEED = 1200, 0
ACTIVATION_BITS = 8  # of the work that is counted; rounded they are in another bench
PARTS = ("every", "matmul", "matmul, blank int8")
SCANNED = 80  # channels on which the opponent is held against a finer search

Changed = dict[str, np.ndarray]  # weights by layer
Rounded = dict[tuple[str, int], Changed]  # by way and bits


def rounded(file: File) -> tuple[list[dict[str, Any]], Rounded]:
    """(a record a layer, weights)."""
    model = load(file)
    work = macs(model, file.shape)
    found: Rounded = {}
    rows = []
    for layer in layers(model):
        w = layer.rows()
        row = {
            "model": file.name,
            "layer": layer.name,
            "op": layer.node.op_type,
            "channels": w.shape[0],
            "inputs": w.shape[1],
            "macs": work[layer.name],
            "depthwise": layer.depthwise,
            "int8": relative_error(w, int8(w)),
            "ways": [],
        }
        for way, bits in _asked(layer):
            one = WAYS[way](w, bits)
            found.setdefault((way, bits), {})[layer.name] = layer.from_rows(one.weights)
            row["ways"].append(
                {
                    "way": way,
                    "bits": bits,
                    "error": relative_error(w, one.weights),
                    "product_bits": one.product_bits,
                    "stored_bits": one.stored_bits,
                    "zero_points": one.zero_points,
                }
            )
        rows.append(row)
        print(file.name, layer.name, flush=True)
    return rows, found


def _asked(layer: Layer) -> Iterator[tuple[str, int]]:
    if not layer.depthwise:
        yield from ((way, bits) for bits in BITS for way in WAYS)


def opponent(seed: int = 0) -> list[dict[str, Any]]:
    """Its squared error over that of a scan of many more scales, channel by channel."""
    rng = np.random.Generator(np.random.PCG64(seed))
    every = [x.rows() for x in layers(load(RECOGNISER)) if not x.depthwise]
    some = [w[rng.integers(len(w))][None] for w in (every[i % len(every)] for i in range(SCANNED))]
    rows = []
    for bits in BITS:
        ratio = [np.square(w - asymmetric(w, bits).weights).sum() / scan(w, bits) for w in some]
        rows.append({"bits": bits, "mean": float(np.mean(ratio)), "most": float(np.max(ratio))})
    return rows


def texts(found: Rounded, drawn: list[tuple[str, np.ndarray]]) -> dict[str, Any]:
    model = load(RECOGNISER)
    every = layers(model)
    plain = {x.name: x.from_rows(int8(x.rows())) for x in every}
    truth, pictures = [text for text, _ in drawn], [rgb for _, rgb in drawn]

    def read(changed: Changed) -> list[str]:
        reader = Reader(replaced(model, changed))
        return [reader.read(rgb) for rgb in pictures]

    whole = read({})

    def record(said: list[str], part: str, way: str, bits: int) -> dict[str, Any]:
        row = {"part": part, "way": way, "bits": bits}
        print(row, agreement(said, whole)["lines"], flush=True)
        return {**row, "float": agreement(said, whole), "truth": agreement(said, truth)}

    rows = [record(whole, "none", "float", 32)]
    depthwise = {x.name: plain[x.name] for x in every if x.depthwise}
    rows.append(record(read(depthwise), "depthwise", "int8", 8))
    rows.append(record(read(plain), "every", "int8", 8))
    for part in PARTS:
        for bits in BITS:
            said = {way: read({**plain, **_of(part, every, found[way, bits])}) for way in WAYS}
            for way, lines in said.items():
                row = record(lines, part, way, bits)
                row["against_asymmetric"] = against(lines, said["asymmetric"], whole)
                rows.append(row)
    blank = [
        {"way": way, "bits": bits, "error": _error_of_blank(every[-1], weights)}
        for (way, bits), weights in found.items()
    ]
    return {"rows": rows, "blank": blank}


def _of(part: str, every: list[Layer], found: Changed) -> Changed:
    """What a part has rounded to few bits; the rest is int8."""
    if part == "every":
        return found
    some = {x.name: found[x.name] for x in every if x.node.op_type == "MatMul"}
    if part == "matmul, blank int8":
        last = every[-1]
        weights = some[last.name].copy()
        weights[:, 0] = last.from_rows(int8(last.rows()))[:, 0]
        some[last.name] = weights
    return some


def _error_of_blank(last: Layer, found: Changed) -> float:
    """Of the channel of CTC's blank, the first of the classifier."""
    return relative_error(last.rows()[0], found[last.name][:, 0].astype(np.float64))


def main() -> None:
    drawn = draw_lines(LINES, SEED)
    recogniser, found = rounded(RECOGNISER)
    detector, _ = rounded(DETECTOR)
    write_result(
        "ocr",
        {
            "package": PACKAGE,
            "models": {
                name: {"file": f.name, "sha256": f.sha256, "input": list(f.shape)}
                for name, f in (("recogniser", RECOGNISER), ("detector", DETECTOR))
            },
            "activation_bits": ACTIVATION_BITS,
            "weights": [*recogniser, *detector],
            "opponent": {"channels": SCANNED, "rows": opponent()},
            "n": LINES,
            "seed": SEED,
            "lines_sha256": digest(drawn),
            "fonts": list(FONTS),
            "text": texts(found, drawn),
        },
    )


if __name__ == "__main__":
    main()
