"""Which nodes of a part run as one kernel: a product with what its result alone goes through.

    MatMul -> Add(bias) -> Sigmoid -.
                        `----------Mul -> (read by others)      one group of four nodes

Every runtime writes the element-wise work and the normalisation behind a product into the product's
own kernel, as long as nobody else reads what lies between. What is made of constants alone is made
once, when a part is opened; a view moves nothing. None of them is a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from edgevlm.compiler.axes.rules import elementwise

__all__ = ["Fused", "constants_of", "fuse", "is_view", "readers_of", "source_of"]

#: the same bytes under another shape
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
#: runs within the kernel of what it reads: row by row, or moving what is written anyway
CHAINED = frozenset(elementwise.RULES) | {
    "LayerNormalization",
    "RMSNormalization",
    "RotaryEmbedding",
    "Softmax",
    "Transpose",
}
LONGEST = 64  # nodes of one side of a diamond


@dataclass(frozen=True)
class Fused:
    """Nodes in the order in which they run; the first is what the group is for."""

    nodes: tuple[ir.Node, ...]
    last: int  # place of its last node in the graph


def is_view(node: ir.Node) -> bool:
    """Whether its output is its first input under another shape, or a number read from a code.

    DequantizeLinear by a constant is the latter: who reads its output reads the code.
    """
    if node.op_type == "Transpose":
        return _keeps_order(node)
    if node.op_type == "DequantizeLinear":
        return node.inputs[1].is_initializer()
    return node.op_type in VIEWS


def source_of(value: ir.Value) -> ir.Value:
    """The value whose bytes are read where this one is: in front of all views."""
    while (node := value.producer()) is not None and is_view(node):
        value = node.inputs[0]
    return value


def constants_of(part: ir.Model) -> frozenset[ir.Node]:
    """Nodes that read constants alone."""
    found: set[ir.Node] = set()
    for node in part.graph:
        inputs = [v for v in node.inputs if v is not None]
        if all(v.is_initializer() or v.producer() in found for v in inputs):
            found.add(node)
    return frozenset(found)


def fuse(part: ir.Model) -> list[Fused]:
    """The kernels of a part, each behind those whose results it reads."""
    place = {node: i for i, node in enumerate(part.graph)}
    free = constants_of(part) | {node for node in place if is_view(node)}
    taken: set[ir.Node] = set()
    groups = []
    for node in place:
        if node in taken or node in free:
            continue
        nodes = [node]
        while more := _behind(nodes[-1], place, taken):
            nodes += more
        taken.update(nodes)
        groups.append(Fused(tuple(nodes), place[nodes[-1]]))
    return sorted(groups, key=lambda group: group.last)


def _behind(node: ir.Node, place: dict[ir.Node, int], taken: set[ir.Node]) -> list[ir.Node]:
    """The nodes that join a group whose last one this is: one, or a diamond with its point."""
    read = [users for v in node.outputs if (users := readers_of(v)) is None or users]
    if len(read) != 1 or not (users := read[0]):
        return []
    point = max(users, key=place.__getitem__)
    found = {point}
    for user in users - {point}:
        side = list(_until(user, point))
        if not side or side[-1] is not point:
            return []
        found.update(side)
    if not all(each.op_type in CHAINED and each not in taken for each in found):
        return []
    return sorted(found, key=place.__getitem__)


def _until(node: ir.Node, point: ir.Node) -> Iterator[ir.Node]:
    """A node and those behind it while each is read by one alone."""
    for _ in range(LONGEST):
        yield node
        if node is point:
            return
        users = readers_of(node.outputs[0]) if len(node.outputs) == 1 else None
        if users is None or len(users) != 1:
            return
        (node,) = users


def readers_of(value: ir.Value) -> set[ir.Node] | None:
    """Who reads a value, through views; None where the caller of the part does, too.

    Nodes that a pass has taken out of the graph may still hold the value; they read nothing.
    """
    found: set[ir.Node] = set()
    waiting: list[ir.Value] = [value]
    while waiting:
        each = waiting.pop()
        if each.is_graph_output():
            return None
        for user, at in each.uses():
            if user.graph is None:
                continue
            if is_view(user) and at == 0:
                waiting.extend(user.outputs)
            else:
                found.add(user)
    return found


def _keeps_order(node: ir.Node) -> bool:
    """Whether a Transpose moves dimensions of 1 alone."""
    shape = _sizes(node.inputs[0])
    order = list(node.attributes.get_ints("perm", range(len(shape))[::-1]))
    moved = [d for d in order if shape[d] != 1]
    return moved == sorted(moved)


def _sizes(value: ir.Value) -> Iterable[int]:
    return [int(d) for d in value.shape]
