"""Read one ONNX file, which may be hostile: size, weights, well-formedness, and what it is made of.

A graph is data here, but what it asks for is run by ONNX Runtime: only ops of ONNX itself may stay,
weights may lie beside the file and nowhere else, and control flow (a loop has no size that is known
when compiling) is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx_ir as ir

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.weights import load_graph
from edgevlm.models.onnx import OLDEST, OPSET

__all__ = ["digest", "not_supported", "read_onnx"]

#: between two nodes of one graph lies at least a name; more is no model for an edge device
MAX_NODES = 100_000
#: bodies of nodes: how often they run is known only while they run
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def read_onnx(path: Path) -> ir.Model:
    """The graph as the file has it, its local functions inlined.

    Raises EV101 (cannot be read, weights elsewhere), EV140 (nothing this compiler can take).
    """
    from onnx_ir.passes.common import (
        ClearMetadataAndDocStringPass,
        InlinePass,
        LiftConstantsToInitializersPass,
        NameFixPass,
        RemoveInitializersFromInputsPass,
        RemoveUnusedFunctionsPass,
        RemoveUnusedNodesPass,
        RemoveUnusedOpsetsPass,
    )

    model = load_graph(path)
    _check(path)
    _check_opset(path, model)
    if model.functions:
        _check_calls(path, model)
        InlinePass()(model)
    for clean in (
        RemoveUnusedFunctionsPass(),
        RemoveInitializersFromInputsPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        RemoveUnusedNodesPass(),
        RemoveUnusedOpsetsPass(),
        ClearMetadataAndDocStringPass(),
        NameFixPass(),
    ):
        clean(model)
    model.producer_name, model.producer_version, model.doc_string = "edgevlm", None, None
    _check_nodes(path, model)
    return model


def digest(path: Path, model: ir.Model, more: Path | None = None) -> str:
    """sha256 over the file, the files its weights lie in and `more`, in name order."""
    names = {str(v.const_value.location) for v in model.graph.initializers.values()
             if isinstance(v.const_value, ir.ExternalTensor)}  # fmt: skip
    files = [path, *(path.parent / name for name in sorted(names)), *([more] if more else [])]
    total = hashlib.sha256()
    for each in files:
        with each.open("rb") as file:
            total.update(f"{each.name}\0".encode())
            total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def not_supported(path: Path, what: str, why: str, fix: str | None = None) -> JobFault:
    """EV140: the file is sound ONNX, but nothing that can be compiled."""
    return JobFault(
        "EV140", f"{path.name}: {what}"[:300], why[:400], fix or "edgevlm compile --help"
    )


def _check(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path))  # by path: models of over 2 GiB, weights beside them
    except Exception as error:  # its own type, and those of protobuf underneath
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise JobFault(
            "EV101",
            f"{path.name} is not valid ONNX",
            f"{type(error).__name__}: {reason[:300]}",
            "export the model again",
        ) from error


def _check_opset(path: Path, model: ir.Model) -> None:
    opset = model.opset_imports[""]
    if not OLDEST <= opset <= OPSET:
        raise not_supported(
            path,
            f"it is of opset {opset}",
            f"opsets {OLDEST} to {OPSET} can be compiled",
            f"export the model again with opset_version={OPSET}",
        )


def _check_calls(path: Path, model: ir.Model) -> None:
    """Count nodes before functions are inlined: a few that call each other fill a memory."""
    bodies = {**model.functions, None: model.graph}
    called = {
        key: Counter(node.op_identifier() for node in ir.traversal.RecursiveGraphIterator(body))
        for key, body in bodies.items()
    }
    sizes: dict[object, int] = {}
    try:
        for key in TopologicalSorter(called).static_order():  # what is called comes first
            total = sum(n * sizes.get(op, 1) for op, n in called.get(key, {"": 1}).items())
            sizes[key] = min(total, MAX_NODES + 1)
    except CycleError as error:
        raise not_supported(
            path, f"function {error.args[1][0][1]} calls itself", "it would never end"
        ) from error
    if sizes[None] > MAX_NODES:
        raise _too_many(path)


def _too_many(path: Path) -> JobFault:
    return not_supported(path, f"it has more than {MAX_NODES} nodes", f"{MAX_NODES} are the limit")


def _check_nodes(path: Path, model: ir.Model) -> None:
    if len(model.graph) > MAX_NODES:
        raise _too_many(path)
    for node in model.graph:
        if node.domain not in ("", "ai.onnx"):
            raise not_supported(
                path,
                f"node {node.name} is {node.domain}::{node.op_type}",
                "it is no op of ONNX, but one of a certain runtime, which has optimised the file",
                "take the file as it was exported, before it was optimised or quantised",
            )
        if node.op_type in CONTROL_FLOW:
            raise not_supported(
                path,
                f"node {node.name} is {node.op_type}",
                "what runs, and how often, would be known only at run time",
                "export the model again with torch.onnx.export(..., dynamo=True)",
            )
