"""A picture and a question of the user's own, answered by the engines.

What prepares pictures and words is edgevlm's own code, which the bundle carries as well; it takes
three packages that JetPack has not, and Python 3.10. Nothing else here needs them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Sequence

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.runtimes.tensorrt.on_device.session import Session

__all__ = ["CARRIED", "answer_own"]

#: modules that the bundle carries for this alone; imported when asked
CARRIED = (
    "edgevlm.compiler.bundle",
    "edgevlm.models.answer",
    "edgevlm.models.processing.image",
)
TOKENIZER = "processor/tokenizer.json"
BEST = 5  # classes that are told


def answer_own(session: Session, image: Path, prompt: str | None) -> dict[str, Any]:
    """The answer, or the likeliest classes, and the seconds of each stage.

    Raises EV411 (no question, or one too many), EV433 (packages), EV11x (the picture), EV12x (the
    question).
    """
    words = session.plan.kind == "vlm"
    if words != (prompt is not None):
        raise UsageFault(
            "EV411",
            "--image and --prompt",
            "it is asked about pictures" if words else "it answers no questions",
            "--image PICTURE --prompt QUESTION" if words else "--image PICTURE",
        )
    try:
        from edgevlm.compiler.bundle import open_bundle
        from edgevlm.compiler.generate import Trace
        from edgevlm.models.answer import Answerer, Viewer
        from edgevlm.models.processing.image import load_image
    except ImportError as error:
        raise JobFault(
            "EV433",
            "this Python lacks what prepares a picture",
            str(error),
            "python3 -m venv --system-site-packages ~/.edgevlm && "
            "~/.edgevlm/bin/pip install pillow pydantic tokenizers, and call it by that Python",
        ) from error
    rgb, manifest = load_image(image), open_bundle(session.plan.bundle).manifest
    if not words:
        trace = Trace()
        viewer = Viewer(manifest.contract, manifest.processor, session.parts)
        seen = viewer.look(rgb, trace)
        best = seen.reshape(-1).argsort()[::-1][:BEST] if session.plan.kind == "classifier" else []
        return {
            "classes": [_class(int(k), seen, manifest.processor.class_names) for k in best],
            "map": list(seen.shape) if session.plan.kind == "dense" else None,
            "seconds": trace.seconds,
        }
    tokenizer = (session.plan.bundle / TOKENIZER).read_bytes()
    answerer = Answerer(manifest.contract, manifest.processor, tokenizer, session.parts)
    found = answerer.answer(rgb, str(prompt))
    return {"answer": found.text, "token_ids": list(found.token_ids), "seconds": found.seconds}


def _class(k: int, seen: Any, names: Sequence[str]) -> dict[str, Any]:
    logit = float(seen.reshape(-1)[k])
    return {
        "class": names[k] if k < len(names) else str(k),
        "logit": logit if math.isfinite(logit) else None,  # JSON has no other numbers
    }
