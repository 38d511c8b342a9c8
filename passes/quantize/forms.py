"""What of a graph a family of targets runs in integers: the data behind where rounding goes.

A runtime names its form here; `quantize-activations` reads it. `ort`: convolutions stay float, as
the output of an int8 one would have to be int8 too. `tensorrt`: int8 attention is one kernel only
where the inputs of both of its products are rounded. `fpga`: the residual stream is kept in 16 bits
between blocks, as nothing there is float.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevlm.compiler.errors import UsageFault

__all__ = ["INTEGER_FORMS", "IntegerForm", "find_integer_form"]


@dataclass(frozen=True)
class IntegerForm:
    """Which values are rounded."""

    products: tuple[str, ...]  # ops whose input is int8 where their weights are integers
    attention: bool = False  # inputs of both products of attention as well
    residual_bits: int = 0  # of the stream between blocks; 0: float
    block: int = 32  # inputs that share a scale of four-bit weights, where a scheme has blocks


INTEGER_FORMS: dict[str, IntegerForm] = {
    "ort": IntegerForm(("MatMul", "Gemm")),
    "openvino": IntegerForm(("MatMul", "Gemm", "Conv")),
    # NVIDIA's own stack for Jetson takes int4 in groups of 128 alone (TensorRT Edge-LLM 0.11)
    "tensorrt": IntegerForm(("MatMul", "Gemm", "Conv"), attention=True, block=128),
    "coreml": IntegerForm(("MatMul", "Gemm", "Conv")),
    "executorch": IntegerForm(("MatMul", "Gemm", "Conv"), attention=True),
    "fpga": IntegerForm(("MatMul", "Gemm", "Conv"), attention=True, residual_bits=16),
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
