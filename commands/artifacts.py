"""The proof of what was lowered: emitted files, run by their runtime, against their own graphs."""

from __future__ import annotations

from edgevlm.commands.writing import Proof
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import Drift
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.narrow_cache import cache_scales, float_ports, float_sides
from edgevlm.compiler.near_ties import near_ties
from edgevlm.compiler.quantised import in_half, rounds_activations
from edgevlm.compiler.reference import Reference, observe
from edgevlm.compiler.rounding_noise import (
    LEAST_DB,
    ROUNDING_FLOOR_DB,
    as_fine,
    rounding_floor,
)
from edgevlm.compiler.verify import answered_otherwise, chosen_otherwise
from edgevlm.runtimes.base import Runtime

__all__ = ["check_artifacts", "total_drift"]

#: dB; an artifact computes the same graph with a vendor's kernels, fused and reordered
ARTIFACT_FLOOR_DB = 40.0


def check_artifacts(
    model: ExportedModel,
    runtime: Runtime,
    parts: PartCaller,
    proof: Proof,
    probes: list[ProbeInput],
) -> None:
    """The emitted files, run by the runtime, against the graphs they came from.

    Rounding may make a selector keep another of two all but equal tokens; then answers may differ.
    So may those of graphs that round where two tokens are all but equal, and all of a runtime that
    rounds float graphs: how many do is told, and `--max-drop` is what refuses.
    """
    graphs = ReferenceParts(model.parts)
    proof.artifact = compare_parts(graphs, parts, proof.seen, model.contract.roles)
    for role, drift in proof.artifact.items():
        part = model.parts[role]
        rounds, half = rounds_activations(part), in_half(part)
        floor = ROUNDING_FLOOR_DB if rounds else ARTIFACT_FLOOR_DB
        if runtime.rounds:
            floor = LEAST_DB
        elif (rounds or half) and drift.sqnr_db < floor:
            floor = rounding_floor(graphs, proof.seen, role, floor, half)
        if drift.sqnr_db >= floor:
            continue
        # also when it is not a number
        if not (rounds and runtime.rounds_rows and as_fine(model, parts, proof.seen, role)):
            raise JobFault(
                "EV305",
                f"artifact {role} strays at {drift.where}",
                f"SQNR {drift.sqnr_db:.1f} dB against its own graph, under {floor:.0f} dB",
                "please report this with the recipe; edgevlm doctor shows versions",
            )
    ran = observe(model, probes, parts)
    proof.chosen_otherwise = sum(chosen_otherwise(proof.seen, ran))
    wrong = [] if runtime.rounds else answered_otherwise(proof.seen, ran)
    if wrong and any(in_half(p) or rounds_activations(p) for p in model.parts.values()):
        wrong -= near_ties(model, (graphs, parts), probes, wrong)
    if wrong or 0 < len(probes) == proof.chosen_otherwise:
        raise JobFault(
            "EV306",
            f"artifacts answer {len(wrong)} of {len(probes)} probes differently"
            if wrong
            else f"artifacts keep other image tokens on all {len(probes)} probes",
            f"the {runtime.name} artifacts are not the graphs they came from",
            "please report this with the recipe",
        )
    proof.seen = ran  # what the bundle itself will say of its goldens


def total_drift(
    original: ExportedModel, model: ExportedModel, parts: PartCaller, first: Reference
) -> dict[Role, Drift]:
    """Source against artifact on the source's inputs, for parts whose ports kept their shapes.

    Caches that became int8 are compared as the numbers their codes stand for.
    """
    was, now = original.contract, model.contract
    scales = cache_scales(model) if was.kv_dtype != now.kv_dtype else {}
    if was.kv_dtype != now.kv_dtype:
        now = float_ports(now)
    same = [
        r for r in now.roles if now.inputs(r) == was.inputs(r) and now.outputs(r) == was.outputs(r)
    ]
    return compare_parts(*float_sides(original, model, parts, scales), first, same)
