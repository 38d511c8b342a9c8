"""One file of weights for all parts of a model: each tensor once, memory-mapped, checked.

prefill and decode hold the same decoder, so their tensors are stored by content: a tensor that two
parts share is written once and both .onnx files point at the same bytes. On the way in, every
reference of a hostile file is checked before anything is mapped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.errors import JobFault

__all__ = ["WEIGHTS_FILE", "WeightWriter", "load_graph", "save_graph"]

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
    try:
        size = path.stat().st_size
        if size > MAX_GRAPH_BYTES:
            raise ValueError(f"{size} bytes is over protobuf's limit of 2 GiB")
        model = ir.load(path)
        _check_references(path.parent, model.graph.initializers.values())
    except JobFault:
        raise
    except Exception as error:  # protobuf, onnx-ir and the OS each raise their own kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise JobFault(
            "EV101",
            f"{path.name} cannot be read as ONNX",
            f"{type(error).__name__}: {reason[0][:200]}; the file is missing, truncated or not ONNX",
            "export or copy the model again, then: edgevlm inspect MODEL",
        ) from error
    return model


def _check_references(folder: Path, values: Iterable[ir.Value]) -> None:
    for value in values:
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        name = str(tensor.location)
        target = folder / name
        if Path(name).name != name or target.is_symlink():
            why = f"tensor {value.name!r} points outside the model folder ({name!r})"
        elif not target.is_file():
            why = f"tensor {value.name!r} lies in {name}, which does not exist"
        else:
            end = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
            size = target.stat().st_size
            fits = (tensor.offset or 0) >= 0 and (tensor.length or tensor.nbytes) == tensor.nbytes
            if fits and end <= size:
                continue
            why = f"tensor {value.name!r} ends at byte {end} of {name}, which has {size}"
        raise JobFault(
            "EV101",
            f"weights of {folder.name} cannot be used",
            why,
            "copy or export the model again",
        )
