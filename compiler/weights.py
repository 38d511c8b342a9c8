"""One file of weights for all parts of a model: each tensor once, memory-mapped, checked.

prefill and decode hold the same decoder, so their tensors are stored by content: a tensor that two
parts share is written once and both .onnx files point at the same bytes. On the way in, every
reference of a hostile file is checked before anything is mapped.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.errors import JobFault

__all__ = [
    "INLINE_BYTES",
    "WEIGHTS_FILE",
    "WeightWriter",
    "load_graph",
    "read_graph_file",
    "save_graph",
]

WEIGHTS_FILE = "weights.bin"
#: smaller tensors stay inside the .onnx file, where a reader (and a shape rule) sees them
INLINE_BYTES = 1024
#: bytes; lets a runtime map a tensor and use aligned vector loads
ALIGNMENT = 64
MAX_GRAPH_BYTES = 2**31 - 1  # protobuf's own limit


class WeightWriter:
    """Appends tensors to `weights.bin`; equal bytes are stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._at: dict[str, tuple[int, int]] = {}
        self._file = (folder / WEIGHTS_FILE).open("wb")

    def __enter__(self) -> WeightWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        """Store a tensor; returns the reference to it."""
        data = tensor.tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._at:
            offset = -self._file.tell() % ALIGNMENT + self._file.tell()
            self._file.write(b"\0" * (offset - self._file.tell()))
            self._file.write(data)
            self._at[digest] = (offset, len(data))
        offset, length = self._at[digest]
        return ir.ExternalTensor(
            WEIGHTS_FILE,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape),
            name=str(tensor.name),
            base_dir=self.folder,
        )


def save_graph(model: ir.Model, path: Path, writer: WeightWriter) -> None:
    """Write `model` to `path` (deterministic bytes), its large tensors through `writer`."""
    held: list[tuple[ir.Value, ir.TensorProtocol]] = []
    try:
        for value in model.graph.initializers.values():
            tensor = value.const_value
            held.append((value, tensor))
            if tensor.nbytes >= INLINE_BYTES:
                value.const_value = writer.put(tensor)
            elif isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.tensor(
                    np.array(tensor.numpy()), name=str(tensor.name), dtype=tensor.dtype
                )
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    finally:
        for value, tensor in held:
            value.const_value = tensor


def load_graph(path: Path) -> ir.Model:
    """Read one part. Raises EV101 for a missing, truncated or hostile file, naming it."""
    model = read_graph_file(path)
    with _told(path):
        for name, tensor, external in _tensors(model):
            _check(path.parent, name, tensor, external)
    return model


def read_graph_file(path: Path) -> ir.Model:
    """The graph alone; what lies in other files is not looked at. Raises EV101."""
    with _told(path):
        if not path.is_file():  # a pipe would block, a device would never end
            raise FileNotFoundError("there is no such file")
        size = path.stat().st_size
        if size > MAX_GRAPH_BYTES:
            raise ValueError(f"{size} bytes is over protobuf's limit of 2 GiB")
        model = ir.load(path)
        if not model.graph.outputs or not model.opset_imports.get(""):
            raise ValueError("it has no outputs or no opset, as a file that ends early")
    return model


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with a file is its fault, in our words."""
    try:
        yield
    except JobFault:
        raise
    except Exception as error:  # protobuf, onnx-ir and the OS each raise their own kinds
        raise JobFault(
            "EV101",
            f"{path.name} cannot be read as ONNX",
            f"{_root_cause(error)}; the file is missing, truncated or not ONNX",
            "export or copy the model again, then: edgevlm inspect MODEL",
        ) from error


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    reason = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {reason[0][:200]}"


def _tensors(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol, bool]]:
    """Every stored tensor with its name, and whether it may lie in another file.

    Only initializers of the main graph may: what else refers to a file (a Constant node, a
    subgraph, a function) would be left behind by `save_graph`.
    """
    for value in model.graph.initializers.values():
        yield str(value.name), value.const_value, True
    for graph in model.graph.subgraphs():
        for value in graph.initializers.values():
            yield str(value.name), value.const_value, False
    for graph in (model.graph, *model.functions.values()):
        for node in ir.traversal.RecursiveGraphIterator(graph):
            for attribute in node.attributes.values():
                if attribute.type is ir.AttributeType.TENSOR:
                    yield str(node.outputs[0].name), attribute.value, False
                elif attribute.type is ir.AttributeType.TENSORS:
                    yield from ((str(node.outputs[0].name), t, False) for t in attribute.value)


def _check(folder: Path, name: str, tensor: ir.TensorProtocol, external: bool) -> None:
    if any(not isinstance(d, int) or d < 0 for d in tensor.shape):
        raise ValueError(f"tensor {name!r} has shape {tensor.shape}")
    if not isinstance(tensor, ir.ExternalTensor):
        tensor.numpy()  # raises if the bytes do not fill the shape
        return
    why = _bad_reference(folder, tensor)
    if not external:
        why = "refers to another file, and is no initializer of the main graph"
    if why:
        raise JobFault(
            "EV101",
            f"weights of {folder.name} cannot be used",
            f"tensor {name!r} {why}",
            "copy or export the model again",
        )


def _bad_reference(folder: Path, tensor: ir.ExternalTensor) -> str | None:
    """What is wrong with a reference; None if it may be mapped."""
    name = str(tensor.location)
    target = folder / name
    offset = tensor.offset or 0
    length = tensor.nbytes if tensor.length is None else tensor.length
    if Path(name).name != name or target.is_symlink():
        return f"points outside the model folder ({name!r})"
    if not target.is_file():
        return f"lies in {name!r}, which does not exist"
    if length != tensor.nbytes:
        return f"has {length} bytes, its shape {tensor.shape} needs {tensor.nbytes}"
    if offset < 0:
        return f"begins at offset {offset}"
    size = target.stat().st_size
    if offset + length > size:
        return f"ends at byte {offset + length} of {name}, which has {size}"
    return None
