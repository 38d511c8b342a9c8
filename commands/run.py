"""`edgevlm run`: one picture, one question, the answer as it is decoded.

A bundle without words is shown the picture alone, and tells the classes or the map (`see`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm.commands.see import see_picture
from edgevlm.commands.session import open_for_answers
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.generate import Trace
from edgevlm.models.processing.image import load_image

__all__ = ["run_bundle"]


def run_bundle(
    path: Path,
    image: Path,
    prompt: str | None,
    *,
    max_new: int | None = None,
    save_map: Path | None = None,
    on_text: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Answer a question about a picture; `on_text` gets pieces as they come.

    A classifier or dense model takes no prompt; save_map: a PNG to write its map to.
    Returns the JSON of `edgevlm run --json`; stages in milliseconds, one run, sessions cold.
    Raises EV110-EV114 (image), EV120-EV123 (prompt), EV220 (options that do nothing), EV3xx.
    """
    rgb = load_image(image)
    bundle = open_bundle(path)
    if prompt is None and bundle.manifest.contract.kind != "vlm":
        return see_picture(bundle, rgb, save_map=save_map)
    opened = open_for_answers(bundle)
    if save_map is not None:
        raise UsageFault(
            "EV220",
            f"--save-map {save_map} of {path.name}",
            "it answers in words, there is no map",
            "leave it out",
        )
    prompt = prompt or ""  # which is then refused as any empty question is
    answerer = opened.answerer
    answerer.prompt(prompt)  # refuse before the image is looked at
    trace, ids, pieces = Trace(), [], []
    start = perf_counter()
    tokens = answerer.look(rgb, trace)
    for piece in answerer.stream(tokens, prompt, max_new=max_new, trace=trace, ids=ids):
        pieces.append(piece)
        on_text(piece)
    total = perf_counter() - start
    stages = {name: round(1000 * sum(values), 3) for name, values in trace.seconds.items()}
    return {
        "schema": 1,
        "bundle": str(path),
        "answer": "".join(pieces),
        "tokens": len(ids),
        "token_ids": ids,
        "stages": {**stages, "end_to_end": round(1000 * total, 3)},
        "unit": "ms",
        "image_tokens": image_tokens(opened.contract),
        "how": "measured-host",
        "n": 1,
    }
