"""What the sections of docs/measurements.md are made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["grid", "load", "provenance"]

RESULTS = Path(__file__).parent / "results"


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def grid(headings: list[str], rows: list[list[object]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def provenance(result: dict[str, Any]) -> str:
    host, tools = result["host"], result["tools"]
    versions = ", ".join(f"{k} {v}" for k, v in tools.items() if v)
    return (
        f"*{result['how']}, {result['date']}: {host['cpu_model']}, {host['cores']} cores, "
        f"{host['ram_gib']} GiB; {versions}.*"
    )
