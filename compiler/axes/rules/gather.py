"""Ops that pick elements by index: what they pick from keeps its axis, what comes out is new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Axis, expand, label, section, size_of, unify
from edgevlm.compiler.axes.rules.common import Rule, attribute, constant, normal_axis, sizes

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def gather(found: Analysis, node: ir.Node) -> list[Dims]:
    """A constant run of indices is a section (a class token stays where it is); others are new."""
    x, name = found.input(node, 0), str(node.name)
    axis = normal_axis(attribute(node, "axis", 0), len(x))
    index = node.inputs[1]
    if index.const_value is None:
        if node.inputs[0].const_value is not None:
            label(x[axis], "class")  # rows of an embedding table
        return [[*x[:axis], *found.input(node, 1), *x[axis + 1 :]]]
    picked = np.asarray(index.const_value.numpy())
    flat = np.where(picked < 0, picked + size_of(x[axis]), picked).reshape(-1)
    run = picked.ndim <= 1 and np.array_equal(flat, np.arange(len(flat)) + flat[0])
    if not run:
        for atom in expand(x[axis]):
            atom.pinned = f"{name} picks constant elements of it"
        new = [() if s == 1 else (Axis(s, name),) for s in picked.shape]
        return [[*x[:axis], *new, *x[axis + 1 :]]]
    part = section(x[axis], int(flat[0]), len(flat), name)
    before = section(x[axis], 0, int(flat[0]), name) if flat[0] else None

    def moved() -> np.ndarray:
        first = 0 if before is None else size_of(before)
        run_now = np.arange(first, first + size_of(part), dtype=picked.dtype)
        return run_now if picked.ndim else run_now[0]

    found.derive(node, 1, moved)
    return [[*x[:axis], *([part] if picked.ndim else []), *x[axis + 1 :]]]


def gather_elements(found: Analysis, node: ir.Node) -> list[Dims]:
    x, index = found.input(node, 0), found.input(node, 1)
    axis = normal_axis(attribute(node, "axis", 0), len(x))
    for place, (a, b) in enumerate(zip(x, index, strict=True)):
        if place != axis and size_of(a) == size_of(b):
            unify(a, b, str(node.name))
    return [list(index)]


def scatter(found: Analysis, node: ir.Node) -> list[Dims]:
    """ScatterElements, ScatterND and TensorScatter write into a copy of their first input."""
    return [list(found.input(node, 0))]


def one_hot(found: Analysis, node: ir.Node) -> list[Dims]:
    index, depth = list(found.input(node, 0)), int(constant(node, 1).reshape(()))
    axis = normal_axis(attribute(node, "axis", -1), len(index) + 1)
    new = (Axis(depth, str(node.name)),)
    like = constant(node, 1)
    found.derive(node, 1, lambda: sizes([new]).reshape(like.shape).astype(like.dtype))
    return [[*index[:axis], new, *index[axis:]]]


RULES: dict[str, Rule] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "ScatterElements": scatter,
    "ScatterND": scatter,
    "TensorScatter": scatter,
    "OneHot": one_hot,
}
