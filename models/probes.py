"""Probes for a model that brings none: pictures drawn from a seed, questions anyone might ask.

They have no right answer. They are there to see two versions of one model side by side; a user's
own pictures (`--probes FOLDER`) are better, because drift depends on what the model is shown.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevlm.compiler.beside import Probe
from edgevlm.compiler.errors import UsageFault
from edgevlm.models.processing.image import load_image

__all__ = ["drawn_probes", "folder_probes"]

QUESTIONS = ("What is in the image?", "What colour is it?", "Is there a person?", "Describe it.")
SIDE = 96  # pixels; every processor resizes it
MAX_PROBES = 64
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def drawn_probes(count: int = 4, seed: int = 0) -> tuple[Probe, ...]:
    """Soft colour fields with a disc and a bar: smooth areas and edges, as photographs have."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    probes = []
    for i in range(count):
        waves = rng.uniform(1, 6, (3, 2))
        field = np.stack([np.sin(waves[c, 0] * x + waves[c, 1] * y) for c in range(3)], -1)
        image = 127 + 100 * field
        cx, cy, r = [*rng.uniform(0.25, 0.75, 2).tolist(), float(rng.uniform(0.1, 0.25))]
        image[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.uniform(0, 255, 3)
        image[np.abs(x - rng.uniform(0.1, 0.9)) < 0.03] = rng.uniform(0, 255, 3)
        probes.append(
            Probe(image=image.clip(0, 255).astype(np.uint8), question=QUESTIONS[i % len(QUESTIONS)])
        )
    return tuple(probes)


def folder_probes(folder: Path, question: str = QUESTIONS[0]) -> tuple[Probe, ...]:
    """The first 64 pictures of a folder, in name order. Raises EV134 if there is none."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)[:MAX_PROBES]
    if not paths:
        raise UsageFault(
            "EV134",
            f"probe folder {folder}",
            f"it has no {', '.join(SUFFIXES)} file",
            "give a folder of pictures, or leave --probes out",
        )
    return tuple(Probe(image=load_image(p), question=question) for p in paths)
