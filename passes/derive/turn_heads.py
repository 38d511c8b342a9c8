"""Turn the channels of every head so that the first ones carry the most; the function is the same.

    scores     Q'^T K' = Q^T K, channels in the order of singular values; the scale is written down
    values     V'^T O' = V^T O, likewise

What follows can cut a head's channels from the end, and loses the least that any cut of so many
could (factors.py). Weights and biases alone are rewritten, in place, and keep their shapes. Heads
of queries that share one of keys share its turn.

Scores of a head whose queries or keys are rotated by position (RoPE), normalised (QK-norm) or
anything else between their projection and the product are left as they are, with the reason: a turn
does not pass through that. Values have nothing of the kind between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.columns import MOVES, Way, trace, trace_heads
from edgevlm.passes.derive.factors import Spread, factors

__all__ = ["Columns", "Turned", "turn_heads"]

Place = tuple[ir.Node, int]  # a node and which of its inputs
PLAIN = MOVES | {"Add"}  # the bias; nothing else may lie between a projection and attention


@dataclass
class Columns:
    """The matrix and bias of a projection, in float64, one column an output."""

    matrix: Place
    bias: Place | None
    w: np.ndarray = field(init=False)  # [m,n]
    b: np.ndarray | None = field(init=False)  # [n]

    def __post_init__(self) -> None:
        self.w = _array(self.matrix)
        self.b = None if self.bias is None else _array(self.bias)

    def rows(self, which: np.ndarray, spread: Spread | None) -> np.ndarray:
        """[width,m+1] of columns [width], the bias last: what they make of inputs all alike."""
        b = np.zeros(len(which)) if self.b is None else self.b[which]
        rows = np.concatenate([self.w[:, which].T, b[:, None]], axis=1)
        return rows if spread is None else rows @ spread.root

    def turn(self, which: np.ndarray, rows: np.ndarray, spread: Spread | None) -> None:
        """Other rows [width,m+1] for columns [width]."""
        rows = rows if spread is None else rows @ spread.inverse
        self.w[:, which] = rows[:, :-1].T
        if self.b is not None:
            self.b[which] = rows[:, -1]

    def store(self, build: GraphBuilder) -> None:
        """Whoever else reads the old constants keeps them."""
        build.put(*self.matrix, self.w)
        if self.bias is not None:
            build.put(*self.bias, self.b)


@dataclass
class Projections:
    """One `Columns` for all ways from the same product: q, k and v may be columns of one matrix."""

    moments: Mapping[str, np.ndarray]
    known: dict[tuple[ir.Node, ir.Node | None], Columns] = field(default_factory=dict)
    spreads: dict[tuple[str, bool], Spread] = field(default_factory=dict)

    def of(self, maker: ir.Node, bias: Place | None = None) -> Columns:
        key = maker, bias and bias[0]
        if key not in self.known:
            self.known[key] = Columns((maker, 1), bias)
        return self.known[key]

    def spread(self, way: Way, about_mean: bool = False) -> Spread | None:
        """Of what the projection reads."""
        key = str(way.maker.inputs[0].name), about_mean
        if key[0] not in self.moments:
            return None
        if key not in self.spreads:
            self.spreads[key] = Spread.of(self.moments[key[0]], about_mean)
        return self.spreads[key]


@dataclass(frozen=True)
class Turned:
    """What became of one Attention: the energy of each head's channels, or why there is none."""

    scores: tuple[np.ndarray, ...] | str  # [q] a head: share of 1, 2, ... channels
    values: tuple[np.ndarray, ...] | str


def turn_heads(part: ir.Model, moments: Mapping[str, np.ndarray] | None = None) -> list[Turned]:
    """Of every Attention of a part, in its order and in place; float32 stays float32.

    moments: by the name of what projections read, the sum of x x^T, a 1 behind x [m+1,m+1]; none:
    as if all inputs were alike.
    """
    known = Projections(moments or {})
    attentions = [node for node in part.graph if node.op_type == "Attention"]
    found = [Turned(_turn_scores(a, known), _turn_values(a, known)) for a in attentions]
    build = GraphBuilder(part, "turn")
    for columns in known.known.values():
        columns.store(build)
    return found


def _turn_scores(attention: ir.Node, known: Projections) -> tuple[np.ndarray, ...] | str:
    ways = [trace_heads(value) for value in attention.inputs[:2]]
    why = _why_not(ways, ("queries", "keys"))
    if why:
        return why
    query, key = (known.of(way.maker, way.bias) for way in ways)
    seen, apart = known.spread(ways[0]), known.spread(ways[1], about_mean=True)
    heads, shared = (way.columns for way in ways)
    group, found = len(heads) // len(shared), []
    for i, keys in enumerate(shared):
        mine = heads[group * i : group * (i + 1)]
        side_by_side = np.concatenate([query.rows(q, seen) for q in mine], axis=1)
        product = factors(side_by_side, key.rows(keys, apart))
        queries, turned = product.narrowed(len(keys))
        found.append(product.energy)
        for q, rows in zip(mine, np.split(queries, group, axis=1), strict=True):
            query.turn(q, _whole(rows, len(q)), seen)
        key.turn(keys, _whole(turned, len(keys)), apart)
    if "scale" not in attention.attributes:
        attention.attributes.add(ir.AttrFloat32("scale", heads.shape[1] ** -0.5))
    return tuple(found)


def _turn_values(attention: ir.Node, known: Projections) -> tuple[np.ndarray, ...] | str:
    way, product = trace_heads(attention.inputs[2]), _output_product(attention.outputs[0])
    why = _why_not([way], ("values",))
    if why:
        return why
    behind = trace(product.inputs[0]) if product is not None else None
    if behind is None or behind.maker is not way.maker:
        return "what attention gives is not projected by a matrix of its own"
    value, out = known.of(way.maker, way.bias), known.of(product)
    seen = known.spread(way)
    found = []
    for mine in way.columns:
        rows = [np.flatnonzero(behind.columns == column) for column in mine]
        places = np.stack(rows)  # [width,group] of rows of the output matrix
        beside = np.concatenate(list(out.w[places].transpose(1, 0, 2)), axis=1)
        head = factors(value.rows(mine, seen), beside)
        less, more = (_whole(half, len(mine)) for half in head.narrowed(len(mine)))
        found.append(head.energy)
        value.turn(mine, less, seen)
        for j, one in enumerate(np.split(more, places.shape[1], axis=1)):
            out.w[places[:, j]] = one
    return tuple(found)


def _why_not(ways: Sequence[Way | None], names: Sequence[str]) -> str:
    for way, name in zip(ways, names, strict=True):
        if way is None:
            return f"{name} are no plain projection: a rotation or a norm lies between, or a cache"
        if not way.ops <= PLAIN or way.ports:
            other = ", ".join(sorted(way.ops - PLAIN)) or "a cache"
            return f"{other} lies between {name} and their projection"
        if way.maker.op_type != "MatMul":
            return f"{name} are made by {way.maker.op_type}"
        shared = [v for v in (way.maker.inputs[1],) if len(list(v.uses())) > 1]
        if shared:
            return f"{shared[0].name} is shared with another product"
    return ""


def _array(place: Place) -> np.ndarray:
    node, position = place
    return node.inputs[position].const_value.numpy().astype(np.float64)


def _output_product(value: ir.Value) -> ir.Node | None:
    """The product that reads what attention gives, behind moves alone."""
    while True:
        users = [node for node, _ in value.uses()]
        if len(users) != 1 or value.is_graph_output():
            return None
        node = users[0]
        if node.op_type == "MatMul":
            constant = node.inputs[1].const_value is not None and node.inputs[0] is value
            alone = constant and len(list(node.inputs[1].uses())) == 1
            return node if alone else None
        if node.op_type not in MOVES:
            return None
        value = node.outputs[0]


def _whole(rows: np.ndarray, width: int) -> np.ndarray:
    """Zeros for channels beyond the rank, where the model is narrower than its head."""
    return np.pad(rows, ((0, width - len(rows)), (0, 0)))
