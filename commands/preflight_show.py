"""What a person reads of a preflight: which compiler, for which chip, and the kernels it made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevlm.commands.output import Speaker

__all__ = ["preflight_lines"]


def preflight_lines(speaker: Speaker, preflight: Mapping[str, Any] | None) -> None:
    """Nothing for a runtime that has none."""
    if preflight is None:
        return
    if not preflight["done"]:
        speaker.say(f"preflight: not done: {preflight['missing']}")
        return
    headings = ["part", "layers", "products", "int8", "fp8", "int4", "attention", "MB", "s"]
    speaker.table(
        f"preflight by {preflight['label']}; engine: not built",
        headings,
        [_row(part) for part in preflight["parts"]],
    )
    for line in preflight["odd"]:
        speaker.say(f"preflight: {line}")


def _row(part: Mapping[str, Any]) -> list[str]:
    """Products are those of the graph, by what they multiply; attention is kernels."""
    counts = part["summary"]
    kinds = ("gemm", "int8_gemm", "fp8_gemm", "int4_gemm", "mha")
    return [
        part["role"],
        f"{part['network_layers']} -> {counts['layers']}",
        *(str(counts[kind]) for kind in kinds),
        f"{part['engine_bytes'] / 1e6:.2f}",
        f"{part['parse_s'] + part['build_s']:.2f}",
    ]
