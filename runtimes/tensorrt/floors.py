"""How far an engine may be from what ONNX Runtime made of its artifact, in dB.

An engine adds up in other orders and rounds in other places than a CPU, as an artifact does against
its graph. So what the host allows there (commands/artifacts.py) is allowed here: how far the part
strays from itself when its inputs move in the last place, and how far the artifact strayed from its
graph, with a margin; on the very call that the device is given.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.contract import Role
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.quantised import in_half, rounds_activations
from edgevlm.compiler.rounding_noise import LEAST_DB, NOISE_MARGIN_DB, rounding_noise
from edgevlm.runtimes.base import Shown

__all__ = ["FLOOR_DB", "ROUNDING_FLOOR_DB", "floor_of"]

#: dB; of parts that round, a number on the edge between two codes falls to either side
FLOOR_DB, ROUNDING_FLOOR_DB = 30.0, 18.0


def floor_of(model: ExportedModel, artifact: ir.Model, shown: Shown, role: Role) -> float:
    """dB, from LEAST_DB to what any part keeps that neither rounds nor is of half precision.

    artifact: what `role` of `model` was lowered to, which `shown.parts` runs.
    """
    rounds, half = rounds_activations(artifact), in_half(artifact)
    fixed = ROUNDING_FLOOR_DB if rounds else FLOOR_DB
    ran = shown.seen.runs(role)
    if not ran or not (rounds or half):
        return fixed
    call = shown.seen.some(ran[:1])
    noise = rounding_noise(shown.parts, call, role, half)
    drift = compare_parts(ReferenceParts({role: model.parts[role]}), shown.parts, call, [role])
    return min(fixed, max(LEAST_DB, min(noise, drift[role].sqnr_db) - NOISE_MARGIN_DB))
