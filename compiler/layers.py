"""What every kernel of a part costs: multiply-accumulates, and the bytes that it must move.

A layer is a group of fused nodes (compiler/fused.py). What it reads and writes are the group's own
inputs and outputs; what lies between never leaves the kernel. Weights are read once a run. Floats
are counted apart, since a device that computes in half precision moves half of their bytes.

Not counted: the scores inside Attention, and work that is not a product; a time made from these
numbers is `predicted`, and too short where those matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from edgevlm.compiler.cost import macs
from edgevlm.compiler.fused import Fused, constants_of, fuse, readers_of, source_of
from edgevlm.compiler.quantised import is_float8, is_rounded, weights_of

__all__ = ["FLOAT", "Layer", "Size", "layers_of", "size_of", "weight_sizes", "written"]

#: of the products of a float graph; a device may have only narrower floats
FLOAT = "fp32"
#: reads as much of its first input as it returns
PICKS = frozenset({"Gather", "GatherElements", "Slice", "Split"})
INTEGER_SUMS = 4  # accuracy_level of MatMulNBits from which inputs are rounded to int8


@dataclass(frozen=True)
class Size:
    """Of some tensors: how many floats, and the bytes of all others."""

    floats: int = 0
    other: int = 0

    def __add__(self, more: Size) -> Size:
        return Size(self.floats + more.floats, self.other + more.other)

    def bytes(self, width: int = 4) -> int:
        """With floats of so many bytes."""
        return self.floats * width + self.other


@dataclass(frozen=True)
class Layer:
    """One kernel. `dtype` is that of its products: fp32 (any float), fp16, int8 or fp8."""

    node: str
    op: str
    fused: tuple[str, ...]  # ops of the other nodes
    macs: int
    dtype: str
    weights: Size  # constants, read once a run
    reads: Size
    writes: Size

    @property
    def moved(self) -> Size:
        """To and from memory in one run."""
        return self.weights + self.reads + self.writes


def layers_of(part: ir.Model, *, folds: bool) -> list[Layer]:
    """The kernels of a part in the order in which they run.

    folds: the runtime makes float weights of stored integers when it opens a part, but for
    products of integers, as ONNX Runtime does; others read what is stored. Raises ValueError for a
    part whose shapes are not all known.
    """
    reading = _Reading(constants_of(part), folds)
    return [reading.layer(group) for group in fuse(part)]


def weight_sizes(part: ir.Model, *, folds: bool) -> dict[ir.Value, Size]:
    """Every constant that the part holds while it is open, as its runtime holds it."""
    reading = _Reading(constants_of(part), folds)
    return {
        value: size_of(value)
        for node in part.graph
        if node not in reading.constant
        for constant in node.inputs
        if reading.is_constant(constant)
        for value in reading.held(constant, node)
    }


def size_of(value: ir.Value) -> Size:
    """Of one tensor of static shape; ValueError where its shape or type is not known."""
    if value.shape is None or value.dtype is None:
        raise ValueError(f"{value.name} has no shape or type")
    elements = 1
    for d in value.shape:
        elements *= int(d)
    if value.dtype == ir.DataType.FLOAT:
        return Size(floats=elements)
    return Size(other=-(-elements * value.dtype.bitwidth // 8))


@dataclass(frozen=True)
class _Reading:
    """How the nodes of one part get at their inputs."""

    constant: frozenset[ir.Node]  # nodes that read constants alone
    folds: bool

    def layer(self, group: Fused) -> Layer:
        first, inside = group.nodes[0], set(group.nodes)
        weights: dict[ir.Value, Size] = {}
        reads: dict[ir.Value, Size] = {}
        for node in group.nodes:
            for place, value in enumerate(node.inputs):
                if self.is_constant(value):
                    into, found = weights, list(self.held(value, node))
                elif value is None or source_of(value).producer() in inside:
                    continue
                else:
                    into, found = reads, [source_of(value)]
                picked = place == 0 and node.op_type in PICKS
                most = _sum(map(size_of, node.outputs)) if picked else None
                into.update({v: _at_most(size_of(v), most) for v in found})
        writes = _sum(size_of(value) for value in written(group))
        return Layer(
            node=str(first.name),
            op=first.op_type,
            fused=tuple(node.op_type for node in group.nodes[1:]),
            macs=sum(map(macs, group.nodes)),
            dtype=_dtype(first),
            weights=_sum(weights.values()),
            reads=_sum(reads.values()),
            writes=writes,
        )

    def is_constant(self, value: ir.Value | None) -> bool:
        return value is not None and (value.is_initializer() or value.producer() in self.constant)

    def held(self, value: ir.Value, node: ir.Node) -> Iterator[ir.Value]:
        """The tensors read for a constant: it itself where it was folded, else its makers'."""
        maker = value.producer()
        if maker is None or not maker.inputs or (self.folds and not _stays(maker, node)):
            yield value
            return
        for before in maker.inputs:
            if before is not None:
                yield from self.held(before, maker)


def _stays(maker: ir.Node, node: ir.Node) -> bool:
    """Whether a product reads the codes: its inputs are codes as well, or it takes 4-bit blocks."""
    if weights_of(node) is not maker:
        return False
    blocks = maker.inputs[0].dtype == ir.DataType.INT4 and "block_size" in maker.attributes
    return blocks or is_rounded(node.inputs[0])


def written(group: Fused) -> Iterator[ir.Value]:
    """What leaves a kernel."""
    inside = set(group.nodes)
    for node in group.nodes:
        for value in node.outputs:
            readers = readers_of(value)
            if readers is None or readers - inside:
                yield value


def _dtype(node: ir.Node) -> str:
    if node.op_type == "MatMulNBits":
        level = node.attributes.get_int("accuracy_level", 0)
        return "int8" if level >= INTEGER_SUMS else FLOAT
    maker = weights_of(node)
    if maker is not None and is_rounded(node.inputs[0]):
        return "fp8" if is_float8(maker) else "int8"
    return "fp16" if node.inputs and node.inputs[0].dtype == ir.DataType.FLOAT16 else FLOAT


def _at_most(size: Size, most: Size | None) -> Size:
    return size if most is None else min(size, most, key=Size.bytes)


def _sum(sizes: Iterable[Size]) -> Size:
    total = Size()
    for size in sizes:
        total += size
    return total
