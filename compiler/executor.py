"""Run parts that are still in memory, in ONNX Runtime with its optimiser off.

This is the independent executor that every pass is proved against. Weights are handed over beside
the graph, so checking a part neither writes it to disk nor meets protobuf's limit of 2 GiB.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.rounded import halves_of, round_halves
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
    # a session must not copy weights: it maps those in files and reads the others where they are
    options.enable_cpu_mem_arena = False  # an arena keeps the largest activations for ever
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/")
    names, arrays, held = [], [], []
    kept = list(model.graph.outputs)
    try:
        model.graph.outputs.extend(v for v in outputs if v not in kept)
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            in_file = isinstance(tensor, ir.ExternalTensor)
            # four-bit numbers have no numpy array that ONNX Runtime could read where it is
            packed = tensor.dtype.bitwidth < 8
            if not in_file and (tensor.nbytes < INLINE_BYTES or packed):
                continue
            held.append((value, tensor))
            if in_file:
                file = Path(tensor.base_dir, tensor.location).resolve()
                place = (str(file.relative_to("/")), tensor.offset, tensor.length)
            else:
                names.append(name)
                array = np.ascontiguousarray(tensor.numpy())
                arrays.append(_where_it_is(array, tensor.dtype))
                place = ("memory", 0, tensor.nbytes)
            value.const_value = ir.ExternalTensor(
                *place, tensor.dtype, shape=ir.Shape(tensor.shape), name=name, base_dir="/"
            )
        proto = ir.to_proto(model)
        if halves := halves_of(model):
            round_halves(proto, halves)
        data = proto.SerializeToString()
    finally:
        for value, tensor in held:
            value.const_value = tensor
        while len(model.graph.outputs) > len(kept):
            model.graph.outputs.pop()  # `del` would leave the values marked as outputs
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


def _where_it_is(array: np.ndarray, dtype: ir.DataType) -> Any:
    """What ONNX Runtime reads where it is; of numpy's extensions it takes the bytes alone."""
    from onnxruntime import OrtValue

    if array.dtype.isbuiltin == 1:
        return OrtValue.ortvalue_from_numpy(array)
    raw = array.view(f"u{array.itemsize}")  # float8, bfloat16
    return OrtValue.ortvalue_from_numpy_with_onnx_type(raw, int(dtype))


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
        try:
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        except Exception as error:  # ONNX Runtime has a class of its own for each status
            raise JobFault(
                "EV204",
                f"part {role} does not run",
                str(error).splitlines()[0][:300],
                "please report this with the recipe",
            ) from error
