"""Models that ship with edgevlm: exported parts, so that torch is not needed to use them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["BUNDLED", "bundled_folder"]

#: name -> folder of the exported model inside this package
BUNDLED: dict[str, str] = {
    "easyvqa-tiny": "easyvqa/exported",
    "scenes-tiny": "scenes/exported",
    "fashion-vit": "fashion_mnist/exported",
}


def bundled_folder(name: str) -> Path:
    """The exported model of a bundled name."""
    return Path(str(files(__name__))) / BUNDLED[name]
