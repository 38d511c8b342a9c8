"""Pictures of a folder that may be a stranger's: what reading them by thousands has in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.models.answer import image_processor

__all__ = ["MOST", "check_readable", "leads_out", "named", "shrinking"]

MOST = 4096  # pictures or rows
UNREADABLE = 20  # one in so many may be

Broken = tuple[str, EdgeError]  # a name within the folder, and why it cannot be read


def named(path: Path) -> str:
    """What a message calls it."""
    return (path.name or str(path))[:120]


def leads_out(folder: Path, path: Path) -> bool:
    """Whether links have a path end outside the folder."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def check_readable(folder: Path, broken: Sequence[Broken], tried: int) -> None:
    """Raises JobFault EV138 where more than one in twenty of the pictures is broken."""
    if len(broken) * UNREADABLE <= tried:
        return
    first, fault = broken[0]
    raise JobFault(
        "EV138",
        f"{len(broken)} of {tried} pictures of {named(folder)} cannot be read",
        f"one in {UNREADABLE} may be left out; the first is {first[:120]}: {fault.why}",
        fault.fix,
    )


def shrinking(model: ExportedModel) -> Callable[[np.ndarray], np.ndarray]:
    """Of uint8 [H,W,3], what the model sees: thousands of photographs do not fit into memory."""
    images = image_processor(model.contract, model.processor)

    def shrink(rgb: np.ndarray) -> np.ndarray:
        small = images.resized(rgb)
        return small if small.size < rgb.size else rgb

    return shrink
