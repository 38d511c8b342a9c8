"""Let part of a graph work on fewer rows: everything behind one value, or up to another.

    before: stream [1,L,D] -> block ... -> out          rotary [1,L,d] -> block ...
    after:  stream -> Gather(rows) [1,L',D] -> block ... -> out
            rotary -> Gather(rows) [1,L',d] -> block ...       (whatever carries the same axis)

    region = Region(part, signature, stream)       # what works on rows of the stream, for now
    rows = ...                                     # build what chooses them, outside of it
    shorten(region, build, rows, Places(L, L'))    # cut, analyse, resize, connect again

With `until`, the rows that were left out come back behind that value: as they were before the cut,
or as copies of rows that stayed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.analysis import Analysis, Signature, analyse
from edgevlm.compiler.axes.axis import Term, ancestors, expand, size_of
from edgevlm.compiler.axes.cut import Use, cut, join
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.resize import resize
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault

__all__ = ["Places", "Region", "behind", "shorten"]

TOKEN = 1  # the row dimension of a stream [1,L,D]
#: what may stand between an index of rows and its use
INDEX_PATH = frozenset({"Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Sub"})


@dataclass(frozen=True)
class Places:
    """`rows` of the stream become `kept`; a run of `first` static rows in front always stays."""

    rows: int
    kept: int
    first: int = 0


def behind(value: ir.Value) -> set[ir.Node]:
    """Every node that depends on a value."""
    found: set[ir.Node] = set()
    waiting = [value]
    while waiting:
        for node, _ in waiting.pop().uses():
            if node not in found:
                found.add(node)
                waiting.extend(node.outputs)
    return found


class Region:
    """What depends on `stream` (up to `until`), and the values that carry its rows in.

    indices: graph inputs (by name) that hold a row of the stream behind the rows that will go, such
    as the last one; they are moved by as many. Raises EV211 naming the value in the way.
    """

    def __init__(
        self,
        part: ir.Model,
        signature: Signature,
        stream: ir.Value,
        *,
        until: ir.Value | None = None,
        indices: tuple[str, ...] = (),
    ) -> None:
        self.part, self.stream, self.until = part, stream, until
        axes = analyse(part.graph, signature)
        self.nodes = behind(stream) - (behind(until) if until is not None else set())
        term = axes.of(stream)[TOKEN]
        self._check_border(axes, term)
        self.uses = _crossing(part.graph, self.nodes)
        #: value -> the dimensions along which it carries the stream's rows
        self.carried = {v: d for v, u in self.uses.items() if (d := _along(axes, v, u, term))}
        self.indices = [v for v in self.uses if v not in self.carried and _from_index(v, indices)]

    def _check_border(self, axes: Analysis, term: Term) -> None:
        """Behind `until` only its own value may carry rows of the region."""
        for node in axes.graph if self.until is not None else ():
            for value in node.outputs if node in self.nodes else ():
                leaves = any(user not in self.nodes for user, _ in value.uses())
                if leaves and value is not self.until and _places(axes.of(value), term, value):
                    raise _refuse(value, "it leaves the region in which rows are left out")


def shorten(
    region: Region,
    build: GraphBuilder,
    rows: ir.Value,
    places: Places,
    content: ir.Value | None = None,
    copies: ir.Value | None = None,
) -> tuple[ir.Value, list[str]]:
    """Let the region work on `rows` (int64 [L'], ascending); returns the short stream and a log.

    content: [1,L',D] in place of the gathered stream, where tokens were merged. copies: int64 [L],
    the row of the short stream that each row is a copy of when it comes back. Raises EV211.
    """
    graph, until = region.part.graph, region.until
    build.finish()
    moved = {v: cut(graph, v, region.uses[v]) for v in region.indices}
    fed = {v: cut(graph, v, region.uses[v]) for v in region.carried}
    back = [i for i, v in enumerate(graph.outputs) if v is until]
    outside = [u for u in until.uses() if u[0] not in region.nodes] if until is not None else []
    after = cut(graph, until, outside) if until is not None else None
    log = _resize(region, fed, places)

    short = region.stream
    for value, stand_in in fed.items():
        less = content if value is region.stream else None
        if less is None:
            less = value
            for place in region.carried[value]:
                less = build("Gather", less, rows, axis=place)
        less.shape, less.dtype = stand_in.shape, stand_in.dtype
        short = less if value is region.stream else short
        join(graph, stand_in, less)
    for value, stand_in in moved.items():
        gone = np.array(places.rows - places.kept).astype(value.dtype.numpy())
        fewer = build("Sub", value, build.const(gone, value.dtype.numpy()))
        fewer.shape, fewer.dtype = stand_in.shape, stand_in.dtype
        join(graph, stand_in, fewer)
    if after is not None:
        whole = _scatter(region, build, rows, places, copies)
        join(graph, after, whole)
        for slot in back:
            graph.outputs[slot] = whole
            until.name, whole.name = f"{until.name}/short", until.name
    build.finish()
    return short, log


def _resize(region: Region, fed: dict[ir.Value, ir.Value], places: Places) -> list[str]:
    free, log = analyse(region.part.graph), []
    for value, stand_in in fed.items():
        for place in region.carried[value]:
            term = free.of(stand_in)[place]
            if size_of(term) == places.rows:
                log += resize(free, *_shrinking(term, places))
    return log


def _shrinking(term: Term, places: Places) -> tuple[Term, int]:
    """The rows that go are of one part: all, or those behind a static run like a class token."""
    parts = parts_of(term)
    starts = np.cumsum([0, *(size_of(p) for p in parts)]).tolist()
    if len(parts) > 1 and places.first in starts:
        return parts[starts.index(places.first)], places.kept - places.first
    return term, places.kept


def _scatter(
    region: Region,
    build: GraphBuilder,
    rows: ir.Value,
    places: Places,
    copies: ir.Value | None,
) -> ir.Value:
    """The region's rows in their old places; the others pass by unchanged, or are copies."""
    until, stream = region.until, region.stream
    if list(until.shape)[TOKEN] != places.kept:
        return build("Identity", until)  # it reads single rows, none of which is left out
    if copies is not None:
        whole = build("Gather", until, copies, axis=TOKEN)
        whole.shape, whole.dtype = stream.shape, until.dtype
        return whole
    lying = build(
        "ScatterElements",
        build.const(np.arange(places.rows) + places.kept),
        rows,
        build.const(np.arange(places.kept)),
        axis=0,
    )
    whole = build("Gather", build("Concat", until, stream, axis=TOKEN), lying, axis=TOKEN)
    whole.shape, whole.dtype = stream.shape, stream.dtype
    return whole


def _crossing(graph: ir.Graph, region: set[ir.Node]) -> dict[ir.Value, list[Use]]:
    """Values that enter the region, with their uses in it, in graph order."""
    found: dict[ir.Value, list[Use]] = {}
    for node in graph:
        for position, value in enumerate(node.inputs if node in region else ()):
            if value is not None and value.producer() not in region:
                found.setdefault(value, []).append((node, position))
    return found


def _along(axes: Analysis, value: ir.Value, uses: list[Use], term: Term) -> list[int]:
    """Dimensions along which a value carries the stream's rows; a weight's, as it is used there."""
    if value.const_value is None:
        return _places(axes.of(value), term, value)
    said = [_places(axes.input(node, position), term, value) for node, position in uses]
    if any(other != said[0] for other in said):
        raise _refuse(value, "it lies along the rows in some of its uses only")
    return said[0]


def _places(dims: list[Term], term: Term, value: ir.Value) -> list[int]:
    whole = expand(term)
    above = set().union(*(ancestors(axis) for axis in whole)) if whole else set()
    out = []
    for place, each in enumerate(dims):
        atoms = expand(each)
        if atoms == whole:
            out.append(place)
        elif not above.isdisjoint(atoms):
            raise _refuse(value, f"the rows are folded into another axis there ({atoms})")
    return out


def _from_index(value: ir.Value, indices: tuple[str, ...]) -> bool:
    node = value.producer()
    while node is not None and node.op_type in INDEX_PATH:
        value = node.inputs[0]
        node = value.producer()
    return node is None and value.name in indices


def _refuse(value: ir.Value, why: str) -> JobFault:
    return JobFault(
        "EV211",
        f"rows cannot be left out at {value.name}",
        why,
        "edgevlm inspect MODEL --axes  shows the axes of every value",
    )
