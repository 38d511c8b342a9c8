"""What a compile writes down: the manifest, the processor and the goldens, and the report.

The manifest holds what follows from the inputs alone, so that the same inputs give the same bytes.
What differs from run to run, and from machine to machine, is in the report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from edgevlm.compiler.bare_graph import FOLDER, save_bare
from edgevlm.compiler.bundle import MANIFEST, Bundle, file_entries
from edgevlm.compiler.class_names import names_of
from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import count, image_tokens
from edgevlm.compiler.drift import Drift
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.manifest import (
    SCHEMA,
    TOKENIZER,
    Also,
    Artifact,
    Golden,
    Manifest,
    PassEntry,
    Target,
)
from edgevlm.compiler.pass_manager import Applied
from edgevlm.compiler.reference import Reference
from edgevlm.devices.host import peak_rss_mb
from edgevlm.models.answer import map_samples, text_processor
from edgevlm.runtimes.base import Preflight, Runtime

__all__ = [
    "Proof",
    "compile_report",
    "goldens_of",
    "write_graphs",
    "write_manifest",
    "write_processor",
]


@dataclass
class Proof:
    """Everything that was checked on the way, for the manifest and the record."""

    applied: list[Applied]
    seen: Reference  # what the final graphs, and then the artifacts, did on the probes
    agree_source: int = 0  # probes answered as the source answers them
    chosen_otherwise: int = 0  # probes on which artifacts and their graphs kept other image tokens
    artifact: dict[Role, Drift] = field(default_factory=dict)  # artifact against its own graph
    source_drift: dict[Role, Drift] = field(default_factory=dict)  # artifact against the source


def write_processor(model: ExportedModel, draft: Path) -> None:
    """The tokenizer, and the probe pictures as goldens."""
    (draft / TOKENIZER).parent.mkdir()
    (draft / TOKENIZER).write_bytes(model.tokenizer)
    (draft / "goldens").mkdir()
    for i, probe in enumerate(model.probes):
        Image.fromarray(probe.image).save(draft / "goldens" / f"{i:03d}.png")


def write_graphs(model: ExportedModel, draft: Path) -> None:
    """What the parts compute, without weights, where artifacts cannot be read as graphs."""
    (draft / FOLDER).mkdir()
    for role, part in model.parts.items():
        save_bare(part, draft / FOLDER / f"{role}.onnx")


def write_manifest(
    model: ExportedModel,
    target: Target,
    artifacts: list[Artifact],
    proof: Proof,
    draft: Path,
    runtime: Runtime,
    goldens: tuple[Golden, ...],
    preflight: Preflight | None = None,
    also: Sequence[Also] = (),
) -> Manifest:
    """manifest.json over every file that is in the draft by now; deterministic."""
    roles = [a.role for a in artifacts]
    by = target.runtime if runtime.runs_here else runtime.proved_by
    verified = {
        "passes": f"every pass ran on {len(goldens)} probes in ONNX Runtime, optimiser off",
        "artifacts": f"every part and {len(goldens)} whole answers, run by {by}",
    }
    for other, each in zip(runtime.also, also, strict=True):
        verified[each.runtime] = f"the same, run by {other.proved_by}"
    not_verified = {
        "task accuracy": "edgevlm eval BUNDLE --dataset NAME measures it",
        "latency": "edgevlm profile BUNDLE measures it",
    }
    if runtime.engine != "not needed":
        not_verified["engine"] = f"what {target.runtime} makes of it on {target.device}"
    if preflight is not None:
        checked = preflight.done and not preflight.predicted
        where = verified if checked else not_verified
        where["preflight"] = str(preflight.done or preflight.missing)
    manifest = Manifest(
        schema=SCHEMA,
        edgevlm=version("edgevlm"),
        source=model.source,
        target=target,
        contract=model.contract,
        processor=model.processor,
        passes=tuple(
            PassEntry(name=a.name, effect=a.effect, options=a.options, changed=a.changed)
            for a in proof.applied
        ),
        artifacts=tuple(artifacts),
        also=tuple(also),
        elsewhere=tuple(role for role in model.contract.roles if role not in roles),
        engine=runtime.engine,
        verified=verified,
        not_verified=not_verified,
        goldens=goldens,
        files=file_entries(draft),
    )
    text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True)
    (draft / MANIFEST).write_text(text + "\n")
    return manifest


def goldens_of(model: ExportedModel, seen: Reference) -> tuple[Golden, ...]:
    """The probes, with what the artifacts said of them."""
    vlm = model.contract.kind == "vlm"
    text = text_processor(model.processor, model.tokenizer) if vlm else None
    return tuple(
        Golden(
            image=f"goldens/{i:03d}.png",
            question=probe.question,
            token_ids=ids,
            answer=text.decode(ids) if text else str(ids[0]) if ids else map_samples(logits),
        )
        for i, (probe, ids, logits) in enumerate(
            zip(model.probes, seen.answers, seen.logits, strict=True)
        )
    )


def compile_report(model: ExportedModel, bundle: Bundle, proof: Proof) -> dict[str, Any]:
    """The JSON of `compile` but `bundle` and `seconds`; it goes into record.json: no path may."""
    labelled = [
        (p.answer, _said(g.answer, model))
        for p, g in zip(model.probes, bundle.manifest.goldens, strict=True)
        if p.answer is not None
    ]
    answers = 0 if model.contract.kind == "dense" else len(model.probes)  # a map is none
    return {
        "schema": 1,
        "digest": bundle.digest,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "bytes": bundle.bytes,
        "target": bundle.manifest.target.model_dump(),
        "image_tokens": image_tokens(model.contract),
        "parts": [_part(role, model, proof) for role in model.contract.roles],
        "answers": {
            "agree_with_source": min(proof.agree_source, answers),
            "chosen_otherwise": proof.chosen_otherwise,
            "probes": answers,
            "correct": sum(a.strip().lower() == b.strip().lower() for a, b in labelled),
            "labelled": len(labelled),
            "how": "measured-host",
        },
        "checks": sum(a.check is not None for a in proof.applied),
        "notes": list(model.source.notes),
    }


def _said(answer: str, model: ExportedModel) -> str:
    """A golden's answer in words; of a classifier it is a number."""
    return names_of(model)[int(answer)] if model.contract.kind == "classifier" else answer


def _part(role: Role, model: ExportedModel, proof: Proof) -> dict[str, Any]:
    """Drift is told against the source where the part kept its shapes, else against its graph."""
    cost = count(model.parts[role])
    drift = proof.source_drift.get(role) or proof.artifact[role]
    return {
        "role": role,
        "bytes": cost.weight_bytes,
        "macs": cost.macs,
        "nodes": cost.nodes,
        "drift": {
            **drift.as_json(),
            "against": "source" if role in proof.source_drift else "own graph",
            "how": "measured-host",
        },
    }
