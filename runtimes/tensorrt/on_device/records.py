"""What lies beside an engine: of what it was built, and the layers that its builder told.

Anybody may have written into the folder, so a record that is not of this form is as none, and its
engine is built again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from edgevlm.runtimes.tensorrt.on_device.layers import TENSORS, TEXTS

__all__ = ["Record", "read_record"]

Record = Dict[str, Any]

MAX_BYTES = 64 * 2**20


def read_record(path: Path) -> Record | None:
    """None for what is missing or broken."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and _is_whole(told) else None


def _is_whole(told: Record) -> bool:
    products, layers = told.get("products", {}), told.get("layers", [])
    return (
        type(told.get("network_layers", 0)) is int
        and isinstance(products, dict)
        and all(_is_texts(names) for names in products.values())
        and isinstance(layers, list)
        and all(map(_is_row, layers))
    )


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in TEXTS)
        and all(_is_texts(row.get(key)) for key in TENSORS)
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
