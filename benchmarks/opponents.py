"""Other tools' int8 graphs of the same float part, by the same engines: what w8a8 is held against.

onnxruntime.quantization   products alone, symmetric, a scale a channel (ort_static.py); its file
                           run by ONNX Runtime and by OpenVINO
nncf                       nncf.quantize for transformers, if it is installed; run by OpenVINO
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ort_static import OrtStatic

from edgevlm.compiler.contract import Role
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.reference import Reference
from edgevlm.runtimes.openvino.kernels import products
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part
from edgevlm.runtimes.openvino.package import engine

__all__ = ["Opponent", "opponents"]

INT8 = ("MatMulIntegerToFloat", "QLinearMatMul", "DynamicQuantizeMatMul", "QGemm")


@dataclass(frozen=True)
class Opponent:
    runtime: str
    scheme: str
    call: Callable[[Feeds], dict[str, np.ndarray]]
    int8: int  # products that run as int8


def opponents(
    model: ExportedModel, role: Role, seen: Reference, folder: Path
) -> Iterator[Opponent]:
    """One thread each. A tool that fails on the part is told and left out."""
    folder.mkdir()
    one = replace(model, parts={role: model.parts[role]})
    theirs = OrtStatic(one, seen, "symmetric", folder, threads=1)
    path = theirs.paths[role]
    yield Opponent(
        "ort", "onnxruntime", lambda feeds: theirs.call(role, feeds), _int8_ops(path, folder)
    )
    names = [str(v.name) for v in model.parts[role].graph.outputs]
    yield _by_openvino(compile_part(path, {"threads": 1}), "onnxruntime", names)
    if find_spec("nncf") is None:
        print("left out: nncf is not installed (pip install nncf)")
        return
    compiled = _nncf(folder / f"{role}.float.onnx", seen.fed(role))
    yield _by_openvino(compiled, "nncf", names)


def _by_openvino(compiled: Any, scheme: str, names: Sequence[str]) -> Opponent:
    part = OpenPart(compiled)

    def call(feeds: Feeds) -> dict[str, np.ndarray]:
        takes = [next(n for n in port.get_names() if n in feeds) for port in compiled.inputs]
        return dict(zip(names, part.run([feeds[name] for name in takes]), strict=True))

    return Opponent("openvino", scheme, call, products(compiled)["i8"])


def _nncf(path: Path, inputs: Sequence[Feeds]) -> Any:
    core, _ = engine()  # before nncf, which would import openvino with its telemetry
    import nncf

    model = core.read_model(str(path))
    made = nncf.quantize(
        model,
        nncf.Dataset(list(inputs), dict),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(inputs),
    )
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    return core.compile_model(made, "CPU", properties)


def _int8_ops(path: Path, folder: Path) -> int:
    """Integer products in the graph that ONNX Runtime's optimiser leaves."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = os.fspath(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ops = Counter(n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node)
    return sum(ops[op] for op in INT8)
