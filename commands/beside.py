"""The same model for a second runtime of one device, lowered and proved as the first is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgevlm.commands.artifacts import check_artifacts
from edgevlm.commands.compile_options import CompileOptions
from edgevlm.commands.some_parts import Completed, elsewhere, written_parts
from edgevlm.commands.writing import Proof
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.manifest import Also
from edgevlm.runtimes.base import Runtime

__all__ = ["lower_beside"]


def lower_beside(
    model: ExportedModel,
    runtime: Runtime,
    draft: Path,
    options: CompileOptions,
    proof: Proof,
    probes: list[ProbeInput],
    progress: Callable[[str], None],
) -> tuple[list[Also], list[dict[str, Any]]]:
    """What the manifest says of it, and what the report does. Raises as the first runtime's.

    proof: of the graphs, before anything was lowered.
    """
    made, told = [], []
    others = elsewhere(options, model)
    for other in runtime.also:
        progress(f"lower to {other.name}")
        artifacts = other.lower(written_parts(options, model), draft)
        other.write_sample(draft, model.contract.kind)
        progress(f"check {other.name}")
        parts = other.open_artifacts(draft, artifacts, model.contract)
        parts = Completed(parts, model, others) if others else parts
        own = replace(proof, artifact={})
        check_artifacts(model, other, parts, own, probes)
        toolchain = other.toolchain()
        made.append(
            Also(
                runtime=other.name,
                toolchain=toolchain,
                sdk=other.sdk,
                artifacts=tuple(artifacts),
            )
        )
        drift = {role: each.as_json() for role, each in own.artifact.items()}
        same = sum(a == b for a, b in zip(own.seen.answers, proof.seen.answers, strict=True))
        told.append(
            {
                "runtime": other.name,
                "toolchain": toolchain,
                "sdk": other.sdk,
                "bytes": sum(p.stat().st_size for p in (draft / other.name).rglob("*")),
                "drift": drift,
                "answers": {"agree": same, "probes": len(probes), "how": "measured-host"},
            }
        )
    return made, told
