"""What a bundle without words makes of a picture: the likeliest classes, or a map.

The map as a PNG is stretched: black is its least value, white its greatest, both of which are in
the report, so that the values can be had back to within 1/255 of their range. Of several channels
the picture holds the number of the greatest.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgevlm.commands.session import open_for_looks
from edgevlm.compiler.atomic import atomic_file
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.generate import Trace

__all__ = ["see_picture"]

SHOWN = 5  # classes that are told


def see_picture(bundle: Bundle, rgb: np.ndarray, *, save_map: Path | None = None) -> dict[str, Any]:
    """The JSON of `edgevlm run --json` for a classifier or a dense model.

    rgb: uint8 [H,W,3]. Raises EV220 (a map of a classifier), EV310 (the PNG exists), EV3xx.
    """
    path, manifest = bundle.folder, bundle.manifest
    dense = manifest.contract.kind == "dense"
    if save_map is not None:
        _check_place(path, save_map, dense)
    viewer, trace = open_for_looks(bundle), Trace()
    start = perf_counter()
    seen = viewer.look(rgb, trace)
    total = perf_counter() - start
    if save_map is not None:
        atomic_file(save_map, _png(seen))
    found = _map(seen, save_map) if dense else _classes(seen, manifest.processor.class_names)
    stages = {name: round(1000 * sum(values), 3) for name, values in trace.seconds.items()}
    return {
        "schema": 1,
        "bundle": str(path),
        **found,
        "stages": {**stages, "end_to_end": round(1000 * total, 3)},
        "unit": "ms",
        "how": "measured-host",
        "n": 1,
    }


def _check_place(path: Path, save_map: Path, dense: bool) -> None:
    if not dense:
        raise UsageFault(
            "EV220",
            f"--save-map {save_map} of {path.name}",
            "it is a classifier, there is no map",
            "leave it out",
        )
    if os.path.lexists(save_map):
        raise UsageFault(
            "EV310",
            f"output {save_map} exists",
            "nothing is overwritten unasked",
            "choose another --save-map",
        )


def _classes(logits: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """The greatest values, in order; the numbers are as the model gives them."""
    values = logits[0]
    best = np.argsort(-values, kind="stable")[:SHOWN]
    return {
        "classes": [
            {
                "class": int(i),
                "label": names[i] if i < len(names) else None,
                "value": _short(values[i]),
            }
            for i in best
        ]
    }


def _map(seen: np.ndarray, saved: Path | None) -> dict[str, Any]:
    return {
        "map": {
            "shape": list(seen.shape),
            "min": _short(seen.min()),
            "mean": _short(seen.mean()),
            "max": _short(seen.max()),
            "saved": None if saved is None else str(saved),
        }
    }


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")


def _png(seen: np.ndarray) -> bytes:
    """[1,C,H,W] -> 8 bits a pixel; 16 where there are more than 256 channels to tell apart."""
    from PIL import Image

    if seen.shape[1] > 1:
        best = seen[0].argmax(0)
        grey = best.astype(np.uint8 if seen.shape[1] <= 256 else np.uint16)
    else:
        plane = np.nan_to_num(seen[0, 0].astype(np.float64))
        low, span = plane.min(), np.ptp(plane) or 1.0
        grey = np.round((plane - low) / span * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()
