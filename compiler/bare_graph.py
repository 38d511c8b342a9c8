"""Graphs without their weights: what a part computes, in a bundle whose artifacts are no ONNX.

    graphs/vision.onnx     nodes, shapes, types; small constants; of large tensors name and size

Predictions, reports and `edgevlm inspect` read structure: they count multiplications and bytes. The
numbers are in the artifacts, once. A tensor that was left out is told by the file it says it lies
in, and reads as zeros, made when somebody looks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.weights import INLINE_BYTES, load_graph, read_graph_file

__all__ = ["FOLDER", "graph_of", "load_bare", "save_bare"]

FOLDER = "graphs"
NOWHERE = "left-out"
#: of one tensor that a hostile file may claim
MOST_BYTES = 64 * 2**30


def save_bare(model: ir.Model, path: Path) -> None:
    """The same bytes whenever it is written."""
    held = {value: value.const_value for value in model.graph.initializers.values()}
    try:
        for value, tensor in held.items():
            if tensor.nbytes >= INLINE_BYTES:
                value.const_value = ir.ExternalTensor(
                    NOWHERE, 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape),
                    name=str(value.name), base_dir=path.parent,
                )  # fmt: skip
            elif isinstance(tensor, ir.ExternalTensor):
                array = np.array(tensor.numpy())
                value.const_value = ir.tensor(array, name=str(value.name), dtype=tensor.dtype)
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    finally:
        for value, tensor in held.items():
            value.const_value = tensor


def load_bare(path: Path) -> ir.Model:
    """Raises EV101 for what is no such file."""
    model = read_graph_file(path)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        sizes = tuple(tensor.shape)
        if tensor.location != NOWHERE or any(not isinstance(d, int) or d < 0 for d in sizes):
            raise _hostile(path, f"tensor {value.name!r} is neither in it nor left out")
        if np.prod([int(d) for d in sizes], dtype=object) * tensor.dtype.itemsize > MOST_BYTES:
            raise _hostile(path, f"tensor {value.name!r} says it is {list(sizes)}")
        value.const_value = _zeros(str(value.name), sizes, tensor.dtype)
    return model


def graph_of(bundle: Bundle, artifact: Artifact) -> ir.Model:
    """The graph of one part of a bundle: its artifact, or what lies beside it. Raises EV101."""
    if artifact.file.endswith(".onnx"):
        return load_graph(bundle.folder / artifact.file)
    return load_bare(bundle.folder / FOLDER / f"{artifact.role}.onnx")


def _zeros(name: str, sizes: tuple[int, ...], dtype: ir.DataType) -> ir.LazyTensor:
    def make() -> ir.Tensor:
        return ir.tensor(np.zeros(sizes, dtype.numpy()), name=name, dtype=dtype)

    return ir.LazyTensor(make, dtype=dtype, shape=ir.Shape(sizes), name=name, cache=False)


def _hostile(path: Path, why: str) -> JobFault:
    return JobFault(
        "EV101", f"{path.name} cannot be read as ONNX", why, "copy or compile the bundle again"
    )
