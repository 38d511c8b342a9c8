"""`edgevlm run`: one picture, one question, the answer as it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm.commands.session import open_for_answers
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.generate import Trace
from edgevlm.models.processing.image import load_image

__all__ = ["run_bundle"]


def run_bundle(
    path: Path,
    image: Path,
    prompt: str,
    *,
    max_new: int | None = None,
    on_text: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Answer a question about a picture; `on_text` gets pieces as they come.

    Returns the JSON of `edgevlm run --json`; stages in milliseconds, one run, sessions cold.
    Raises EV110-EV114 (image), EV120-EV123 (prompt), EV3xx (bundle).
    """
    rgb = load_image(image)
    opened = open_for_answers(path)
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
