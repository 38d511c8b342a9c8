"""An ETDump as rows: each op and each kernel inside a delegate, over all runs of its method.

    execute = operators + delegates + what ExecuTorch does between them
    delegate = kernels inside + what its runtime does round them

Means add up; medians do not. XNNPACK counts its kernels in whole microseconds, so one that takes
less is seen in the mean of many runs only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.align import aligned
from edgevlm.runtimes.executorch.etdump import KERNEL, Block, Event
from edgevlm.runtimes.executorch.nodes import Node, Nodes
from edgevlm.runtimes.executorch.profile_rows import (
    At,
    EtProfile,
    MethodProfile,
    Row,
    Spread,
    Unit,
)
from edgevlm.runtimes.executorch.program import Instruction, Methods
from edgevlm.runtimes.executorch.qnn.names import measure_of
from edgevlm.runtimes.executorch.whose_run import Sorted, by_method

__all__ = ["rows_of"]

NS_A_MS = 1e6
MOST_TIMES = 20_000_000  # rows by runs; an honest dump has some thousand by some hundred
AGAIN = "profile one method at a time, with more runs"
PARTS = ("operator", "delegate", "inside")
QNN = "QnnBackend"
UNNAMED = "delegate"  # where no program says whose call it is

Key = tuple[At, str, str]  # where, kind of event, name


@dataclass
class Tally:
    """Of one row: what each run has of it, by its place; most of what is odd is of one run."""

    unit: Unit
    kind: str
    values: dict[int, float] = field(default_factory=dict)
    calls: int = 0
    nodes: tuple[str, ...] = field(default=())


def rows_of(
    blocks: Sequence[Block],
    program: Methods | None = None,
    *,
    method: str | Sequence[str] | None = None,
    skip: int = 0,
    nodes: Nodes | None = None,
) -> EtProfile:
    """method: the one that all runs are of, or that of each run; else the program tells it.

    skip: first runs of each method that are not counted. Raises JobFault EV360 where none is left.
    """
    whole, cut = [], []
    for block in blocks:
        kinds = {event.kind for event in block.events}
        if "execute" in kinds:
            whole.append(block)
        elif kinds & set(PARTS):
            cut.append(block)
    found = by_method(whole, program, method)
    kept = {name: runs[skip:] for name, runs in found.runs.items() if runs[skip:]}
    if not kept:
        raise JobFault("EV360", "the ETDump has no run that counts", _why(found, skip), AGAIN)
    made = [
        _profile(name, runs, (program or {}).get(name, {}), (nodes or {}).get(name, {}))
        for name, runs in kept.items()
    ]
    loads = [e.ticks / NS_A_MS for b in blocks for e in b.events if e.kind == "load"]
    return EtProfile(tuple(made), tuple(loads), len(cut), found.untold)


def _why(found: Sorted, skip: int) -> str:
    if found.untold:
        names = next(iter(found.untold))
        return f"they fit {' and '.join(names)} alike" if names else "they are of another program"
    return f"{sum(map(len, found.runs.values()))} came to their end, {skip} are for warming up"


def _profile(
    name: str,
    runs: Sequence[Block],
    made: Mapping[At, Instruction],
    nodes: Mapping[int, tuple[Node, ...]],
) -> MethodProfile:
    found = _tallies(runs, made)
    _tell_nodes(found, nodes)
    if len(found) * len(runs) > MOST_TIMES:
        why = f"{len(found)} ops in {len(runs)} runs, of which no program has as many"
        raise JobFault("EV360", "the ETDump has too many names", why, AGAIN)
    rows = tuple(_row(name, key, tally, made, len(runs)) for key, tally in found.items())
    ends = (next(e for e in run.events if e.kind == "execute") for run in runs)
    each_ms = tuple(e.ticks / NS_A_MS for e in ends)
    operators, delegates = ([r for r in rows if r.kind == k] for k in ("operator", "delegate"))
    return MethodProfile(
        name,
        len(runs),
        Spread.of(each_ms),
        sum(r.spread.mean for r in operators),
        sum(r.spread.mean for r in delegates),
        len(operators),
        len(delegates),
        rows,
        each_ms,
    )


def _tallies(runs: Sequence[Block], made: Mapping[At, Instruction]) -> dict[Key, Tally]:
    """In the order in which they are first seen; an op's time is that of its OPERATOR_CALL."""
    names = {e.at: e.name for run in runs for e in run.events if e.kind == "kernel"}
    found: dict[Key, Tally] = {}
    for place, run in enumerate(runs):
        for event in run.events:
            if event.kind not in PARTS:
                continue
            named = names.get(event.at, event.name) if event.kind == "operator" else event.name
            key = (event.at, event.kind, named.removeprefix(KERNEL))
            value, unit, kind = _measured(event, made.get(event.at))
            tally = found.setdefault(key, Tally(unit, kind))
            tally.values[place] = tally.values.get(place, 0.0) + value
            tally.calls += 1
    return found


def _measured(event: Event, calling: Instruction | None) -> tuple[float, Unit, str]:
    """A delegate that hands over a number writes it as a span from 0 (QnnProfiler.cpp).

    What such numbers of other delegates are (events of a performance monitor, say), nobody knows.
    """
    if not event.inside or event.start:
        return event.ticks / NS_A_MS, "ms", event.kind
    if calling is not None and calling.calls != QNN:
        return event.end, "count", "figure"
    value, unit, part = measure_of(event.name, event.end)
    return value, unit, "inside" if part else "figure"


def _row(method: str, key: Key, tally: Tally, made: Mapping[At, Instruction], runs: int) -> Row:
    at, kind, event = key
    calling = made.get(at)
    backend = None
    if kind != "operator":
        backend = calling.calls if calling and calling.kind == "delegate" else UNNAMED
    return Row(
        method,
        at,
        event,
        tally.kind,
        backend,
        tally.calls,
        tally.unit,
        Spread.of([tally.values.get(place, 0.0) for place in range(runs)]),
        tally.nodes,
    )


def _tell_nodes(found: Mapping[Key, Tally], nodes: Mapping[int, tuple[Node, ...]]) -> None:
    """Of an instruction all that it was made of, of a kernel inside its own."""
    inside: dict[At, list[Key]] = defaultdict(list)
    for key, tally in found.items():
        (chain, at), kind, _ = key
        if kind == "inside":
            inside[key[0]].append(key)
        elif chain == 0:
            tally.nodes = tuple(dict.fromkeys(node.node for node in nodes.get(at, ())))
    for (chain, at), keys in inside.items():
        own = nodes.get(at, ()) if chain == 0 else ()
        for key, node in zip(keys, aligned([key[2] for key in keys], own), strict=True):
            found[key].nodes = (node,) if node else ()
