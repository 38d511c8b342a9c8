"""TOSA graphs, run in Arm's reference model: the integers that the NPU's graph computes.

`LoweredProgram` runs a whole lowered part, its delegates in the reference model and what stayed
outside them in torch; it lives inside the job that lowers. `signature` and `open_pieces` are for
later: where nothing but quantize and dequantize is outside a single delegate, the .tosa file and a
few numbers are enough, without torch. What the host computes is a program of portable kernels.

This proves the graph that Vela was given, not the command stream that Vela made of it.
https://www.mlplatform.org/tosa
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.ethos.graph import DELEGATE, DEQUANTIZE, ITEM, QUANTIZE, op_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

__all__ = ["dequantise", "lowered_program", "open_pieces", "quantise", "run_graph", "signature"]


_Call = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def run_graph(tosa: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a TOSA graph, in its order. Raises EV307."""
    import tosa_reference_model

    try:
        outputs, status = tosa_reference_model.run(tosa, [np.ascontiguousarray(x) for x in inputs])
    except ValueError as error:
        raise _failed(str(error)) from error
    if status != tosa_reference_model.GraphStatus.TOSA_VALID:
        raise _failed(f"it ended as {status.name}")
    return outputs


def quantise(values: np.ndarray, how: Mapping[str, Any]) -> np.ndarray:
    """As quantized_decomposed.quantize_per_tensor: rounded half to even, clamped."""
    steps = np.rint(values.astype(np.float32) * np.float32(1.0 / how["scale"]))
    clamped = np.clip(steps + np.float32(how["zero_point"]), how["low"], how["high"])
    return clamped.astype(how["dtype"])


def dequantise(values: np.ndarray, how: Mapping[str, Any]) -> np.ndarray:
    """Float32: (values - zero point) * scale."""
    return (values.astype(np.float32) - np.float32(how["zero_point"])) * np.float32(how["scale"])


def open_pieces(
    request: Mapping[str, Any], folder: Path
) -> Callable[[str, Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """For open_worker: {"pieces": {name: {"tosa": file, "signature"} or {"program": file}}}.

    Answers a piece's name and its inputs, by "0", "1", ...; outputs go by the same kind of names.
    """
    pieces = {
        name: _portable(folder / told["program"]) if "program" in told
        else _graph((folder / told["tosa"]).read_bytes(), told["signature"])
        for name, told in request["pieces"].items()
    }  # fmt: skip

    def answer(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = pieces[name]([arrays[str(i)] for i in range(len(arrays))])
        return {str(i): array for i, array in enumerate(made)}

    return answer


def _graph(tosa: bytes, told: Mapping[str, Any]) -> _Call:
    def call(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        feeds = [
            arrays[row["position"]] if row["scale"] is None
            else quantise(arrays[row["position"]], row)
            for row in told["inputs"]
        ]  # fmt: skip
        found = run_graph(tosa, feeds)
        return [
            found[row["delegate_output"]] if row["scale"] is None
            else dequantise(found[row["delegate_output"]], row)
            for row in told["outputs"]
        ]  # fmt: skip

    return call


def _portable(file: Path) -> _Call:
    import torch
    from executorch.runtime import Runtime, Verification

    program = Runtime.get().load_program(file, verification=Verification.InternalConsistency)
    method = program.load_method("forward")

    def call(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        return [np.array(made.numpy()) for made in method.execute(given)]

    return call


def signature(program: ExportedProgram) -> dict[str, Any] | None:
    """How inputs become those of the only delegate, and its outputs those of the program.

    {"inputs": [{"position", "scale", "zero_point", "low", "high", "dtype"}], in the delegate's
    order; "outputs": [{"delegate_output", "scale", ...}]}; scale null: taken as it is. None where
    more than quantize and dequantize is outside.
    """
    graph = program.graph_module.graph
    users = {name: i for i, name in enumerate(program.graph_signature.user_inputs)}
    calls = [node for node in graph.nodes if op_of(node) == DELEGATE]
    results = next(node for node in graph.nodes if node.op == "output").args[0]
    if len(calls) != 1 or program.graph_signature.buffers_to_mutate:
        return None
    inputs = [_affine(node, QUANTIZE) for node in calls[0].args[1:]]
    outputs = [_affine(node, DEQUANTIZE) for node in results]
    for source, row in inputs:
        row["position"] = users.get(source.name)
    for source, row in outputs:
        of_it = op_of(source) == ITEM and source.args[0] is calls[0]
        row["delegate_output"] = source.args[1] if of_it else None
    rows = {"inputs": [row for _, row in inputs], "outputs": [row for _, row in outputs]}
    if any(None in (row.get("position", 0), row.get("delegate_output", 0)) for side in rows.values()
           for row in side):  # fmt: skip
        return None
    return rows


def lowered_program(
    program: ExportedProgram, tosa_of: Mapping[bytes, bytes]
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """What runs a program with delegates: flat inputs -> flat outputs.

    tosa_of: the TOSA graph of each delegate by its processed bytes.
    """
    import torch
    from executorch.exir.delegate import executorch_call_delegate
    from torch.utils import _pytree as pytree

    class Lowered(torch.fx.Interpreter):
        def call_function(self, target: Any, args: tuple, kwargs: dict) -> Any:
            if target is not executorch_call_delegate:
                return super().call_function(target, args, kwargs)
            delegate, *feeds = args
            found = run_graph(tosa_of[delegate.processed_bytes], [x.numpy() for x in feeds])
            return [torch.from_numpy(np.array(each)) for each in found]

    stored = {**program.state_dict, **program.constants}
    told = program.graph_signature
    named = (
        told.inputs_to_parameters | told.inputs_to_buffers | told.inputs_to_lifted_tensor_constants
    )
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]

    def call(sample: Sequence[Tensor]) -> list[Tensor]:
        given = iter(sample)
        feeds = [stored[named[name]] if name in named else next(given) for name in names]
        with torch.no_grad():
            return pytree.tree_leaves(Lowered(program.graph_module).run(*feeds))

    return call


def _affine(node: Node, op: str) -> tuple[Node, dict[str, Any]]:
    """Where a value comes from, and the quantize or dequantize between."""
    if op_of(node) != op:
        return node, dict.fromkeys(("scale", "zero_point", "low", "high", "dtype"))
    source, scale, zero_point, low, high, dtype = node.args[:6]
    kind = str(dtype).removeprefix("torch.")
    row = {"scale": scale, "zero_point": zero_point, "low": low, "high": high, "dtype": kind}
    return source, row


def _failed(why: str) -> JobFault:
    return JobFault(
        "EV307",
        "the TOSA reference model did not run a graph that was made for an Ethos-U",
        why,
        "please report this, with the model",
    )
