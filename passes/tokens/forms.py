"""What a target can run of a selector: the data behind "this target cannot run that method".

A runtime names its form here; a method says what it needs (`Method.needs`). A greedy choice is a
chain of arg-max steps, each of which needs the last one's answer: it is unrolled, so the chain must
be short enough, or several tokens are taken a step (`block`), which is another, coarser method and
is noted as such. Where arg-max and gather chains do not run at all, loop-free methods are left.
Ties go to the lower index: ONNX promises that of TopK and ArgMax and ONNX Runtime keeps it; where a
compiler does not promise it, keys are made unique by a ramp, on integer targets by a composite key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgevlm.compiler.errors import UsageFault

__all__ = ["FORMS", "Form", "find_form", "why_not"]


@dataclass(frozen=True)
class Form:
    """How selectors are written for a family of targets."""

    name: str
    ties: Literal["stable", "ramp", "integer"]
    steps: int  # longest unrolled chain of dependent arg-max steps; 0: none at all
    topk: int  # largest k of a TopK; 0: no limit
    float_ops: bool = True  # divisions, roots and exponentials in float32
    bits: int = 16  # of an integer key's score
    why: str = ""  # said when a method is refused


FORMS: dict[str, Form] = {
    "ort": Form("ort", "stable", 256, 0),
    # its TopK takes any of equal scores
    "openvino": Form("openvino", "ramp", 256, 0),
    # TensorRT-RTX refuses a TopK with k over 3840 and promises no order among ties
    "tensorrt": Form(
        "tensorrt", "ramp", 128, 3840, why="unrolled chains over 128 steps build too slowly"
    ),
    "coreml": Form(
        "coreml", "ramp", 0, 0, why="chains of arg-max and gather do not run on the Neural Engine"
    ),
    # what the Neural Engine has no kernels for runs on the GPU or CPU, of the same asset; TopK is a
    # stable sort on the CPU, and nobody promises that of the others
    "coreai": Form("coreai", "ramp", 256, 0),
    "executorch": Form(
        "executorch", "ramp", 0, 0, why="mobile NPUs take no chain of arg-max and gather"
    ),
    # TopK and Gather are the host's, between two programs of the NPU
    "ethos": Form("ethos", "ramp", 0, 0, why="micro NPUs take no chain of arg-max and gather"),
    "fpga": Form(
        "fpga",
        "integer",
        1024,
        0,
        float_ops=False,
        why="the integer path has no division, root or exponential",
    ),
}


def why_not(form: Form, greedy: bool, lowering: str, keep: int = 1) -> str:
    """Why a method that is so made does not run in a form; empty where it does.

    greedy: it is a chain of arg-max steps. lowering: its class A-E. keep: K.
    """
    if (greedy and form.steps == 0) or (not form.float_ops and lowering in "DE"):
        return form.why
    if form.topk and keep > form.topk:
        return f"its TopK takes at most {form.topk}"
    return ""


def find_form(name: str) -> Form:
    """Raises EV202 for a name that is none."""
    if name not in FORMS:
        raise UsageFault(
            "EV202",
            f"unknown selector form {name[:60]!r}",
            f"forms: {', '.join(FORMS)}",
            "leave form out: the target chooses it",
        )
    return FORMS[name]
