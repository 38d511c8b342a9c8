"""Run parts that are still in memory, in ONNX Runtime with its optimiser off.

This is the independent executor that every pass is proved against. Weights are handed over by
reference, so checking a part does not write it to disk.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.weights import INLINE_BYTES

__all__ = ["Feeds", "PartCaller", "ReferenceParts", "open_session"]

Feeds = Mapping[str, np.ndarray]


class PartCaller(Protocol):
    """Whoever can run a part: a runtime, or the reference executor."""

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        """Outputs of a part by name."""
        ...


def open_session(model: ir.Model, threads: int = 1, outputs: tuple[ir.Value, ...] = ()) -> Any:
    """An ORT session on an in-memory model; `outputs` are intermediate values to return as well."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    names, arrays, held = [], [], []
    kept = list(model.graph.outputs)
    try:
        model.graph.outputs.extend(v for v in outputs if v not in kept)
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor.nbytes >= INLINE_BYTES:
                held.append((value, tensor))
                names.append(name)
                arrays.append(
                    ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor.numpy()))
                )
                value.const_value = ir.ExternalTensor(
                    "memory",
                    0,
                    tensor.nbytes,
                    tensor.dtype,
                    shape=ir.Shape(tensor.shape),
                    name=name,
                    base_dir="",
                )
        data = ir.to_proto(model).SerializeToString()
    finally:
        for value, tensor in held:
            value.const_value = tensor
        del model.graph.outputs[len(kept) :]
    if names:
        options.add_external_initializers(names, arrays)
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise JobFault(
            "EV204",
            f"part {model.graph.name or '?'} is not a valid ONNX graph any more",
            str(error).splitlines()[0][:300],
            "please report this with the recipe",
        ) from error


class ReferenceParts:
    """Sessions on in-memory parts, opened when first called."""

    #: sessions by part; a pass that leaves a part alone leaves its session in place
    _sessions: weakref.WeakKeyDictionary[ir.Model, Any] = weakref.WeakKeyDictionary()

    def __init__(self, parts: Mapping[Role, ir.Model]) -> None:
        self.parts = parts

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        part = self.parts[role]
        session = self._sessions.get(part)
        if session is None:
            session = self._sessions[part] = open_session(part)
        names = [str(v.name) for v in part.graph.outputs]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
