"""What of a graph a family of targets runs in integers: the data behind where rounding goes.

A runtime names its form here; `quantize-activations` reads it. `ort`: convolutions stay float, as
the output of an int8 one would have to be int8 too. `openvino`: attention's scores are int8, and
its probabilities float: most are below half a step of the largest (-12 dB on a ViT-S). `tensorrt`:
int8 attention is one kernel only where the inputs of both of its products are rounded.
`executorch`: XNNPACK's static int8 products give int8, so what comes out is rounded as well;
products of two computed values are float. Those whose output leaves the part (logits), and those
with blocks, take rows of int8 whose scale is found at run time. `fpga`: the residual stream is kept
in 16 bits between blocks, as nothing there is float. `ethos`: all of it is int8, but its own
quantiser rounds it, and takes no graph that is rounded already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgevlm.compiler.errors import UsageFault

__all__ = ["INTEGER_FORMS", "IntegerForm", "find_integer_form"]


@dataclass(frozen=True)
class IntegerForm:
    """Which values are rounded."""

    products: tuple[str, ...]  # ops whose input is int8 where their weights are integers
    attention: Literal["float", "scores", "both"] = "float"  # which of its products are integers
    outputs: bool = False  # a product with int8 inputs gives int8, too
    rows: bool = False  # scales of run time are one a row, for weights with or without blocks
    residual_bits: int = 0  # of the stream between blocks; 0: float
    block: int = 32  # inputs that share a scale of four-bit weights, where a scheme has blocks


ALL = ("MatMul", "Gemm", "Conv", "ConvTranspose")
INTEGER_FORMS: dict[str, IntegerForm] = {
    "ort": IntegerForm(("MatMul", "Gemm")),
    "openvino": IntegerForm(ALL, attention="scores"),
    # NVIDIA's own stack for Jetson takes int4 in groups of 128 alone (TensorRT Edge-LLM 0.11)
    "tensorrt": IntegerForm(ALL, attention="both", block=128),
    "coreml": IntegerForm(ALL),
    "coreai": IntegerForm(ALL),
    "executorch": IntegerForm(ALL, outputs=True, rows=True),
    "ethos": IntegerForm(ALL, attention="both"),
    "fpga": IntegerForm(ALL, attention="both", residual_bits=16),
}


def find_integer_form(name: str) -> IntegerForm:
    """Raises UsageFault EV202 for a form that is none."""
    if name not in INTEGER_FORMS:
        raise UsageFault(
            "EV202",
            f"integer form {name[:40]!r}",
            f"forms: {', '.join(INTEGER_FORMS)}",
            "edgevlm passes show quantize-activations",
        )
    return INTEGER_FORMS[name]
