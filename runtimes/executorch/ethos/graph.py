"""Names of the ops of a torch.fx graph, whichever dialect they are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = ["DELEGATE", "DEQUANTIZE", "ITEM", "QUANTIZE", "op_of"]

DELEGATE, ITEM = "executorch_call_delegate", "getitem"
QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"


def op_of(node: Node) -> str | None:
    """Such as "aten.topk.default", of ATen and of ExecuTorch's edge dialect; None: no call."""
    if node.op != "call_function":
        return None
    text = str(node.target)  # "<...>" of an edge op, and of a plain function
    return node.target.__name__ if text.startswith("<") else text
