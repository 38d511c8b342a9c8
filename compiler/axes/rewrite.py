"""Write new sizes into a graph: cut initializers, renewed constants, attributes.

Constants and attributes are rewritten only where what they say now is not what the sizes are, so
that wildcards (a -1 in a Reshape, an open end of a Slice) stay as they are while they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import size_of
from edgevlm.compiler.axes.rules.common import attribute, constant, who
from edgevlm.compiler.axes.rules.section import equal_parts

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis

__all__ = ["Rewriter"]


class Rewriter:
    """Edits of one resize. Users of one initializer that need the same new one share it."""

    def __init__(self, found: Analysis) -> None:
        self.found, self.graph = found, found.graph
        self.log: list[str] = []
        self._made: dict[tuple[object, ...], ir.Value] = {}

    def cut(self, node: ir.Node, position: int, kept: list[np.ndarray | None]) -> None:
        """Keep the given positions of each dimension of a stored tensor; None keeps all."""
        old = node.inputs[position]
        key = (old, *(None if index is None else index.tobytes() for index in kept))
        if key not in self._made:
            array = old.const_value.numpy()
            for dimension, index in enumerate(kept):
                if index is not None:
                    array = np.take(array, index, axis=dimension)
            self._made[key] = self._initializer(str(old.name), array, old.const_value.dtype)
        new = self._made[key]
        self._replace(node, position, new)
        self.log.append(f"{who(node)}: {old.name} {list(old.shape)} -> {list(new.shape)}")

    def exchange(self, node: ir.Node, position: int, array: np.ndarray) -> None:
        """Put another array in the place of a stored tensor."""
        old = node.inputs[position]
        key = (old, array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = self._initializer(str(old.name), array, old.const_value.dtype)
        new = self._made[key]
        self._replace(node, position, new)
        self.log.append(f"{who(node)}: {old.name} {list(old.shape)} -> {list(new.shape)}, drawn")

    def renew(self) -> None:
        """Compute every constant and attribute that follows from sizes anew."""
        for (node, position), compute in self.found.constants.items():
            new, now = compute(), _says(self.found, node, position)
            if not np.array_equal(now, new):
                said = constant(node, position)
                self._constant(node, position, new)
                was = "implied" if said is None else said.tolist()
                self.log.append(f"{who(node)}: {node.op_type} {was} -> {new.tolist()}")
        for (node, name), compute in self.found.attributes.items():
            new, now = compute(), attribute(node, name)
            if new is not None and new != now:
                kind = ir.AttrFloat32 if isinstance(new, float) else ir.AttrInt64
                node.attributes[name] = kind(name, new)
                self.log.append(f"{who(node)}: {name} {now} -> {new}")

    def _constant(self, node: ir.Node, position: int, new: np.ndarray) -> None:
        old = node.inputs[position] if position < len(node.inputs) else None
        if old is None:  # sizes that were implied
            node.resize_inputs(max(len(node.inputs), position + 1))
            node.attributes.pop("num_outputs", None)
            stem, dtype = f"{node.outputs[0].name}/{node.op_type}", ir.DataType.INT64
        else:
            stem, dtype = str(old.name), old.const_value.dtype
        key = (old or node, position, new.shape, new.tobytes())
        if key not in self._made:
            self._made[key] = self._initializer(stem, new.astype(dtype.numpy()), dtype)
        self._replace(node, position, self._made[key])

    def _initializer(self, name: str, array: np.ndarray, dtype: ir.DataType) -> ir.Value:
        stem, count = name.split("~")[0], 1
        while f"{stem}~{count}" in self.graph.initializers:
            count += 1
        tensor = ir.tensor(np.ascontiguousarray(array), name=f"{stem}~{count}", dtype=dtype)
        value = ir.Value(
            name=tensor.name,
            const_value=tensor,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(dtype),
        )
        self.graph.register_initializer(value)
        return value

    def _replace(self, node: ir.Node, position: int, new: ir.Value) -> None:
        old = node.inputs[position]
        node.replace_input_with(position, new)
        if old is not None and not (
            old.uses() or old in self.graph.outputs or old in self.graph.inputs
        ):
            del self.graph.initializers[old.name]


def _says(found: Analysis, node: ir.Node, position: int) -> np.ndarray:
    """What a constant input means with the sizes as they are now."""
    value = node.inputs[position] if position < len(node.inputs) else None
    source = [size_of(term) for term in found.input(node, 0)]
    if value is None:
        total = source[attribute(node, "axis", 0)]
        return np.array(equal_parts(total, len(node.outputs)), np.int64)
    said = value.const_value.numpy()
    match node.op_type:
        case "Reshape":
            return _resolved(said, source, bool(attribute(node, "allowzero", 0)))
        case "Slice":
            return _bounds(node, said, source)
        case "Expand":
            under = ([1] * len(said) + source)[-len(said) :]
            return np.where(said == 1, under, said)
        case "Gather":
            limit = source[attribute(node, "axis", 0)]
            return np.where(said < 0, said + limit, said)
    return said


def _resolved(target: np.ndarray, source: list[int], allow_zero: bool) -> np.ndarray:
    dims = [
        source[i] if d == 0 and not allow_zero and i < len(source) else int(d)
        for i, d in enumerate(target)
    ]
    known = int(np.prod([d for d in dims if d != -1]))
    return np.array([int(np.prod(source)) // known if d == -1 else d for d in dims], np.int64)


def _bounds(node: ir.Node, said: np.ndarray, source: list[int]) -> np.ndarray:
    """An open or negative bound of a Slice as the index it means; strided ones as they are."""
    has = [i < len(node.inputs) and node.inputs[i] is not None for i in range(5)]
    axes = node.inputs[3].const_value.numpy() if has[3] else np.arange(len(said))
    steps = node.inputs[4].const_value.numpy() if has[4] else np.ones(len(said), np.int64)
    limit = np.array([source[int(a)] for a in axes])
    index = np.clip(np.where(said < 0, said + limit, said), 0, limit)
    return np.where(steps == 1, index, said)
