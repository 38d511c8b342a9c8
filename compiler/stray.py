"""Where two versions of a part first differ: the one line that makes a drift report useful."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import Feeds, open_session

__all__ = ["first_stray"]


def first_stray(before: ir.Model, after: ir.Model, feeds: Sequence[Feeds], floor: float) -> str:
    """The first node (in graph order) whose value, known by the same name, is under `floor` dB.

    All feeds are tried: a node may stray on one picture only.
    """
    old = {str(v.name): v for n in before.graph for v in n.outputs if v.name and v.dtype}
    shared = [
        v
        for n in after.graph
        for v in n.outputs
        if (twin := old.get(str(v.name))) is not None
        and twin.shape == v.shape
        and v.dtype is not None
        and v.dtype.is_floating_point()
    ]
    if not shared:
        return "a value that has no name in both graphs"
    names = [str(v.name) for v in shared]
    sessions = (
        open_session(before, outputs=tuple(old[n] for n in names)),
        open_session(after, outputs=tuple(shared)),
    )
    first: tuple[int, float] | None = None
    for fed in feeds:
        want, got = (session.run(names, dict(fed)) for session in sessions)
        for place, (a, b) in enumerate(zip(want, got, strict=True)):
            drift = measure(a, b, names[place])
            if drift.sqnr_db < floor:
                if first is None or place < first[0]:
                    first = place, drift.sqnr_db
                break
    if first is None:
        return "a value that has no name in both graphs"
    node = shared[first[0]].producer()
    return f"{node.name} ({node.op_type}), {first[1]:.1f} dB"
