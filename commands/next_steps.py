"""What who has just made a first bundle does next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from edgevlm.compiler.contract import Role
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.runtimes.base import Runtime

__all__ = ["next_steps"]


def next_steps(
    out: Path, model: ExportedModel, runtime: Runtime, others: Sequence[Role], device: str
) -> list[str]:
    """Commands that work as they stand, for who has just made a first bundle."""
    bundle = shlex.quote(str(out))
    if runtime.engine == "not built":
        there = shlex.quote(out.name)
        return [
            f"edgevlm profile {bundle} --device ssh://USER@HOST",
            f"scp -r {bundle} USER@HOST:  and there",
            f"python3 {there}/build_on_device.py",
            f"python3 {there}/run_on_device.py",
        ]
    if others:
        return [f"edgevlm verify {bundle}"]
    picture = shlex.quote(str(out / "goldens" / "000.png"))
    if model.contract.kind != "vlm":
        return [f"edgevlm run {bundle} --image {picture}", f"edgevlm verify {bundle}"]
    question = shlex.quote(model.probes[0].question)
    there = "" if runtime.runs_here else f" --device {device}"
    return [
        f"edgevlm run {bundle} --image {picture} --prompt {question}",
        f"edgevlm profile {bundle}{there}",
    ]
