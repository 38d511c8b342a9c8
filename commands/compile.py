"""`edgevlm compile`: source -> passes, each checked -> artifacts, checked -> bundle, written whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image

from edgevlm.compiler.atomic import atomic_folder, check_target
from edgevlm.compiler.bundle import MANIFEST, RECORD, Bundle, file_entries, open_bundle, write_sums
from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import count
from edgevlm.compiler.drift import Drift
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.manifest import SCHEMA, Golden, Manifest, PassEntry, Target
from edgevlm.compiler.pass_manager import Applied, run_passes
from edgevlm.compiler.recipe import Recipe
from edgevlm.compiler.verify import Check, ProbeInput, Reference, compare_parts, observe
from edgevlm.devices import find_device
from edgevlm.devices.host import describe_host, peak_rss_mb
from edgevlm.models.answer import probe_inputs, text_processor
from edgevlm.models.source import SourceOptions, open_source
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.base import Runtime

__all__ = ["CompileOptions", "compile_model"]

#: dB; an artifact computes the same graph with a vendor's kernels, fused and reordered
ARTIFACT_FLOOR_DB = 40.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class CompileOptions:
    target: str
    out: Path
    flags: Flags = Flags()
    recipe: Path | None = None  # replaces the flags
    source: SourceOptions = SourceOptions()
    force: bool = False
    min_sqnr: float = 15.0  # dB, floor for passes that approximate


@dataclass
class _Proof:
    """Everything that was checked on the way, for the record and the manifest."""

    applied: list[Applied] = field(default_factory=list)
    artifact: dict[Role, Drift] = field(default_factory=dict)
    source_drift: dict[Role, Drift] = field(default_factory=dict)
    agree_source: int = 0
    seen: Reference | None = None


def compile_model(
    source: str, options: CompileOptions, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Compile and write the bundle; returns the JSON of `edgevlm compile --json`.

    Raises EV1xx (source), EV2xx (pass), EV3xx (target, output). The old bundle stays whole on any.
    """
    start = perf_counter()
    device = find_device(options.target)
    runtime = find_runtime(device.runtime)
    check_target(options.out, options.force)
    recipe = (
        Recipe.read(options.recipe)
        if options.recipe
        else compose(options.target, runtime.name, options.flags)
    )
    passes = make_passes(recipe)
    toolchain = runtime.toolchain()

    progress("read source")
    original = open_source(source, options.source)
    probes = probe_inputs(
        original.contract, original.processor, original.tokenizer, original.probes
    )
    progress("probe source")
    first = observe(original, probes)
    model, applied, seen = run_passes(
        original, passes, probes, min_sqnr=options.min_sqnr, progress=progress
    )
    proof = _Proof(applied, agree_source=_agree(first, seen), seen=seen)
    with atomic_folder(options.out, options.force) as draft:
        progress(f"lower to {runtime.name}")
        artifacts = runtime.lower(model, draft)
        target = Target(device=device.id, runtime=runtime.name, toolchain=toolchain)
        _write_processor(model, draft)
        (draft / "recipe.toml").write_text(recipe.to_toml())
        manifest = _manifest(model, target, artifacts, proof, draft)
        progress("check artifacts")
        bundle = Bundle(draft, manifest)
        _check_artifacts(model, runtime, bundle, proof, probes)
        proof.source_drift = _total_drift(original, model, runtime.open(bundle), first)
        report = _report(model, bundle, proof, options.out, perf_counter() - start)
        record = {**report, "passes": [a.as_json() for a in applied], "host": _host()}
        (draft / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        write_sums(draft)
        progress("write bundle")
    report["digest"] = open_bundle(options.out).digest
    report["seconds"] = round(perf_counter() - start, 2)
    return report


def _agree(a: Reference, b: Reference) -> int:
    return sum(x == y for x, y in zip(a.answers, b.answers, strict=True))


def _check_artifacts(
    model: ExportedModel, runtime: Runtime, bundle: Bundle, proof: _Proof, probes: list[ProbeInput]
) -> None:
    """The emitted files, run by the runtime, against the graphs they came from."""
    parts = runtime.open(bundle)
    proof.artifact = compare_parts(
        ReferenceParts(model.parts), parts, proof.seen, model.contract.roles
    )
    for role, drift in proof.artifact.items():
        if drift.sqnr_db < ARTIFACT_FLOOR_DB:
            raise JobFault(
                "EV305",
                f"artifact {role} strays at {drift.where}",
                f"SQNR {drift.sqnr_db:.1f} dB against its own graph, under "
                f"{ARTIFACT_FLOOR_DB:.0f} dB",
                "please report this with the recipe; edgevlm doctor shows versions",
            )
    ran = observe(model, probes, parts)
    agree = _agree(proof.seen, ran)
    if agree < len(probes):
        raise JobFault(
            "EV306",
            f"artifacts answer {len(probes) - agree} of {len(probes)} probes differently",
            f"the {runtime.name} artifacts are not the graphs they came from",
            "please report this with the recipe",
        )


def _total_drift(
    original: ExportedModel, model: ExportedModel, parts: PartCaller, first: Reference
) -> dict[Role, Drift]:
    """Source against artifact on the source's inputs, for parts whose ports kept their shapes."""
    same = [
        r
        for r in model.contract.roles
        if model.contract.inputs(r) == original.contract.inputs(r)
        and model.contract.outputs(r) == original.contract.outputs(r)
    ]
    return compare_parts(ReferenceParts(original.parts), parts, first, same)


def _write_processor(model: ExportedModel, draft: Path) -> None:
    (draft / "processor").mkdir()
    (draft / "processor" / "tokenizer.json").write_bytes(model.tokenizer)
    (draft / "goldens").mkdir()
    for i, probe in enumerate(model.probes):
        Image.fromarray(probe.image).save(draft / "goldens" / f"{i:03d}.png")


def _manifest(
    model: ExportedModel, target: Target, artifacts: list, proof: _Proof, draft: Path
) -> Manifest:
    vlm = model.contract.kind == "vlm"
    text = text_processor(model.processor, model.tokenizer) if vlm else None
    goldens = tuple(
        Golden(
            image=f"goldens/{i:03d}.png",
            question=probe.question,
            token_ids=ids,
            answer=text.decode(ids) if text else str(ids[0]),
        )
        for i, (probe, ids) in enumerate(zip(model.probes, proof.seen.answers, strict=True))
    )
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
        engine="not needed",
        verified={
            "passes": f"every pass ran on {len(goldens)} probes in ONNX Runtime, optimiser off",
            "artifacts": f"every part and {len(goldens)} whole answers, run by {target.runtime}",
        },
        not_verified={
            "task accuracy": "edgevlm eval BUNDLE --dataset NAME measures it",
            "latency": "edgevlm profile BUNDLE measures it",
        },
        goldens=goldens,
        files=file_entries(draft),
    )
    text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True)
    (draft / MANIFEST).write_text(text + "\n")
    return manifest


def _report(
    model: ExportedModel, bundle: Bundle, proof: _Proof, out: Path, seconds: float
) -> dict[str, Any]:
    cost = {role: count(part) for role, part in model.parts.items()}
    labelled = [
        (p.answer, g.answer)
        for p, g in zip(model.probes, bundle.manifest.goldens, strict=True)
        if p.answer is not None
    ]
    checks: list[Check] = [a.check for a in proof.applied if a.check]
    return {
        "schema": 1,
        "bundle": str(out),
        "seconds": round(seconds, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "bytes": bundle.bytes,
        "target": bundle.manifest.target.model_dump(),
        "image_tokens": {
            "kept": model.contract.kept_image_tokens,
            "of": model.contract.image_tokens,
        },
        "parts": [
            {
                "role": role,
                "bytes": cost[role].weight_bytes,
                "macs": cost[role].macs,
                "nodes": cost[role].nodes,
                # against the source where its shapes survived, else against the graph it was lowered from
                "drift": {
                    **(proof.source_drift.get(role) or proof.artifact[role]).as_json(),
                    "against": "source" if role in proof.source_drift else "own graph",
                    "how": "measured-host",
                },
            }
            for role in model.contract.roles
        ],
        "answers": {
            "agree_with_source": proof.agree_source,
            "probes": len(model.probes),
            "correct": sum(a.strip().lower() == b.strip().lower() for a, b in labelled),
            "labelled": len(labelled),
            "how": "measured-host",
        },
        "checks": len(checks),
    }


def _host() -> dict[str, Any]:
    return describe_host().as_json()
