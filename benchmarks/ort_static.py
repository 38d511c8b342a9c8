"""The opponent: onnxruntime.quantization's static quantiser, on the graphs we quantise.

    defaults     quantize_static as it comes: QDQ, MinMax, every op it knows, a scale a tensor
    asymmetric   products alone (MatMul, Gemm), weights int8 a scale a channel, activations uint8
    symmetric    the same with ActivationSymmetric

int8 activations of products alone make files that ONNX Runtime 1.31 does not load from opset 21 on
(its own passes put a uint8 zero point beside output_dtype int8), hence uint8.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.weights import WeightWriter, save_graph

__all__ = ["WAYS", "OrtStatic", "zero_points"]

PRODUCTS = {"op_types_to_quantize": ["MatMul", "Gemm"], "per_channel": True}
WAYS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "asymmetric": PRODUCTS,
    "symmetric": {**PRODUCTS, "extra_options": {"ActivationSymmetric": True}},
}


class OrtStatic:
    """The parts of a model quantised by ONNX Runtime's own tool, and run by it."""

    def __init__(
        self, model: ExportedModel, seen: Reference, way: str, folder: Path, threads: int = 0
    ) -> None:
        import onnxruntime as ort

        self.sessions, self.paths = {}, {}
        for role, part in model.parts.items():
            feeds = seen.fed(role)
            source, made = folder / f"{role}.float.onnx", folder / f"{role}.onnx"
            with WeightWriter(folder) as writer:
                save_graph(part, source, writer)
                writer._file.flush()
                _quantise(source, made, feeds, WAYS[way])
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 4
            options.add_session_config_entry("session.force_spinning_stop", "1")
            self.paths[role] = made
            self.sessions[role] = ort.InferenceSession(
                str(made), options, providers=["CPUExecutionProvider"]
            )

    def call(self, role: str, feeds: Feeds) -> dict[str, np.ndarray]:
        session = self.sessions[role]
        names = [o.name for o in session.get_outputs()]
        takes = {i.name for i in session.get_inputs()}
        given = {name: value for name, value in feeds.items() if name in takes}
        return dict(zip(names, session.run(names, given), strict=True))


class _Reader:
    """A CalibrationDataReader, in duck typing."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._rest: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._rest, None)


def _quantise(source: Path, made: Path, feeds: Sequence[Feeds], options: dict[str, Any]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    reader = type("Reader", (_Reader, CalibrationDataReader), {})(feeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        types = {"activation_type": QuantType.QUInt8} if options else {}
        quantize_static(str(source), str(made), reader, **types, **options)


def zero_points(path: Path) -> tuple[int, int]:
    """(those that are not 0, all) of the QuantizeLinear and DequantizeLinear of a file."""
    import onnx

    graph = onnx.load(path).graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    names = {
        n.input[2]
        for n in graph.node
        if n.op_type in ("QuantizeLinear", "DequantizeLinear") and len(n.input) > 2
    }
    values = np.concatenate([stored[n].ravel().astype(int) for n in names] or [np.zeros(0, int)])
    return int((values != 0).sum()), len(values)
