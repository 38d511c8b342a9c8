"""Who runs what of a lowered method: counted on the program, before any device has seen it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["placed"]

#: what is no work: tuples taken apart
NOTHING = frozenset({"getitem"})


def placed(program: torch.export.ExportedProgram) -> dict[str, Any]:
    """{"delegates", "delegated": {op: n}, "left": {op: n}, "share": delegated / all ops}."""
    delegated: dict[str, int] = {}
    left: dict[str, int] = {}
    delegates = 0
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = _op(node)
        if name == "executorch_call_delegate":
            delegates += 1
            inside = getattr(program.graph_module, node.args[0].target).original_module
            for inner in inside.graph.nodes:
                if inner.op == "call_function" and (op := _op(inner)) not in NOTHING:
                    delegated[op] = delegated.get(op, 0) + 1
        elif name not in NOTHING:
            left[name] = left.get(name, 0) + 1
    whole = sum(delegated.values()) + sum(left.values())
    return {
        "delegates": delegates,
        "delegated": dict(sorted(delegated.items())),
        "left": dict(sorted(left.items())),
        "share": round(sum(delegated.values()) / whole, 4) if whole else 1.0,
    }


def _op(node: torch.fx.Node) -> str:
    """aten.add.Tensor -> add; quantized_decomposed.quantize_per_tensor.default -> the middle."""
    name = str(getattr(node.target, "__name__", node.target))
    return name.split(".")[-2] if name.count(".") > 1 else name.split(".")[0]
