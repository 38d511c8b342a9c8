"""Strongly typed ONNX graphs for TensorRT: one transformer block in fp16, int8, int4 or fp8.

    x [1,T,D] -> LayerNorm -> q, k, v -> softmax(q k + mask) v -> out -> + -> MLP -> + -> y [1,T,D]

Made by hand with onnx.helper, so that it builds within a second and needs no torch. `scheme` says
what stands before every MatMul with weights: Q/DQ pairs in int8 or fp8, or blocks of int4 weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Typed", "block", "one_op"]

FLOATS = {"fp16": (TensorProto.FLOAT16, np.float16), "fp32": (TensorProto.FLOAT, np.float32)}


class Typed:
    """A graph under construction."""

    def __init__(self, float_type: str = "fp16", seed: int = 0) -> None:
        self.kind, self.np = FLOATS[float_type]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.draw = np.random.default_rng(seed)

    def const(self, array: np.ndarray, name: str | None = None) -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value: float) -> str:
        return self.const(np.array(value, self.np))

    def raw(self, kind: int, data: bytes, shape: tuple[int, ...]) -> str:
        """Types that numpy has no name for."""
        name = f"c{len(self.constants)}"
        self.constants.append(TensorProto(name=name, data_type=kind, dims=shape, raw_data=data))
        return name

    def op(self, op: str, *inputs: str, name: str | None = None, **attributes) -> str:
        out = f"v{len(self.nodes)}"
        label = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=label, **attributes))
        return out

    def weights(self, rows: int, columns: int) -> np.ndarray:
        return self.draw.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)

    def linear(self, x: str, rows: int, columns: int, scheme: str | None, name: str) -> str:
        """x @ W [rows,columns] + b under a scheme."""
        w = self.weights(rows, columns)
        bias = self.const(self.draw.normal(0, 0.1, columns).astype(self.np))
        if scheme is None:
            return self.op(
                "Add", self.op("MatMul", x, self.const(w.astype(self.np)), name=name), bias
            )
        if scheme == "int4":
            deq = self._int4(w)
        elif scheme == "fp8":
            x, deq = self._fp8(x), self.op("DequantizeLinear", *self._fp8_weights(w))
        else:
            axis = 0 if scheme == "int8-wrong-axis" else 1
            if scheme != "w8":
                x = self.pair(x, zero=5 if scheme == "int8-zero-point" else 0)
            scale = np.abs(w).max(1 - axis) / 127
            codes = np.round(w / np.expand_dims(scale, 1 - axis)).astype(np.int8)
            wired = [self.const(codes), self.const(scale.astype(self.np))]
            deq = self.op("DequantizeLinear", *wired, axis=axis)
        return self.op("Add", self.op("MatMul", x, deq, name=name), bias)

    def pair(self, x: str, scale: float = 0.03, zero: int = 0) -> str:
        """Quantise to int8 and back."""
        wired = [self.number(scale), self.const(np.array(zero, np.int8))]
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *wired), *wired)

    def _int4(self, w: np.ndarray, block: int = 32) -> str:
        rows, columns = w.shape
        blocks = w.reshape(rows // block, block, columns)
        scale = np.abs(blocks).max(1) / 7
        codes = np.clip(np.round(blocks / scale[:, None]), -8, 7).astype(np.int8).reshape(-1)
        packed = ((codes[0::2] & 15) | ((codes[1::2] & 15) << 4)).astype(np.uint8).tobytes()
        wired = self.raw(TensorProto.INT4, packed, w.shape), self.const(scale.astype(self.np))
        return self.op("DequantizeLinear", *wired, axis=0, block_size=block)

    def _fp8_weights(self, w: np.ndarray) -> tuple[str, str, str]:
        import ml_dtypes

        kind, scale = TensorProto.FLOAT8E4M3FN, np.abs(w).max() / 448
        codes = (w / scale).astype(ml_dtypes.float8_e4m3fn).tobytes()
        return self.raw(kind, codes, w.shape), self.number(scale), self.raw(kind, b"\0", ())

    def _fp8(self, x: str) -> str:
        wired = [self.number(0.01), self.raw(TensorProto.FLOAT8E4M3FN, b"\0", ())]
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *wired), *wired)

    def save(self, path: Path, inputs: dict, outputs: dict, opset: int = 21) -> Path:
        """inputs, outputs: name -> (type, shape)."""
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [info(name, *port) for name, port in inputs.items()],
            [info(name, *port) for name, port in outputs.items()],
            self.constants,
        )
        imports = [helper.make_opsetid("", opset)]
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
        return path


def block(
    path: Path,
    scheme: str | None = None,
    *,
    float_type: str = "fp16",
    tokens: int = 64,
    width: int = 64,
    heads: int = 2,
    cache: int = 0,
) -> Path:
    """One block; with a cache, that of a decode step whose keys and values are inputs too."""
    g, d = Typed(float_type), width // heads
    inputs = {"x": (g.kind, (1, tokens, width))}
    norm = [g.const(np.ones(width, g.np)), g.const(np.zeros(width, g.np))]
    seen = g.op("LayerNormalization", "x", *norm, axis=-1, name="norm")
    q, k, v = (g.linear(seen, width, width, scheme, name) for name in ("to_q", "to_k", "to_v"))
    apart = g.const(np.array([1, tokens, heads, d]))
    q, k, v = (g.op("Transpose", g.op("Reshape", t, apart), perm=[0, 2, 1, 3]) for t in (q, k, v))
    outputs = {"y": (g.kind, (1, tokens, width))}
    if cache:
        for name in ("past_key", "past_value"):
            inputs[name] = (g.kind, (1, heads, cache, d))
        inputs["mask"] = (TensorProto.BOOL, (1, 1, 1, cache + tokens))
        k = g.op("Concat", "past_key", k, axis=2)
        v = g.op("Concat", "past_value", v, axis=2)
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]), name="scores")
    scores = g.op("Mul", scores, g.number(d**-0.5))
    if cache:
        wall = g.op("Where", "mask", g.number(0), g.number(-1e4))
        scores = g.op("Add", scores, wall)
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), v, name="mix")
    mixed = g.op(
        "Reshape",
        g.op("Transpose", mixed, perm=[0, 2, 1, 3]),
        g.const(np.array([1, tokens, width])),
    )
    x = g.op("Add", "x", g.linear(mixed, width, width, scheme, "to_out"))
    seen = g.op("LayerNormalization", x, *norm, axis=-1, name="norm_2")
    wide = g.op("Gelu", g.linear(seen, width, 4 * width, scheme, "up"))
    g.op("Add", x, g.linear(wide, 4 * width, width, scheme, "down"))
    g.nodes[-1].output[0] = "y"
    return g.save(path, inputs, outputs)


def one_op(path: Path, op: str, shape: tuple[int, ...], **attributes) -> Path:
    """A graph of one node of float32, for refusals."""
    g = Typed("fp32")
    g.op(op, "x", name=f"the_{op}", **attributes)
    g.nodes[-1].output[0] = "y"
    return g.save(path, {"x": (g.kind, shape)}, {"y": (TensorProto.INT64, None)})
