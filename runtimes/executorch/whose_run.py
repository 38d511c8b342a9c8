"""Which method a run of an ETDump is of: its events do not say.

The program has the instructions of every method. A run is of the method that has its calls, all of
them and no others. Methods made of the same calls (prefill and decode of one decoder, say) cannot
be told apart: whoever ran them says in which order, or runs one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgevlm.runtimes.executorch.etdump import KERNEL, Block
from edgevlm.runtimes.executorch.profile_rows import At
from edgevlm.runtimes.executorch.program import Instruction, Methods

__all__ = ["Sorted", "by_method"]

CALLS = {"kernel": "operator", "delegate": "delegate"}  # instruction -> event


@dataclass(frozen=True)
class Sorted:
    """runs: by method. untold: how many are of one of several methods, by their names."""

    runs: dict[str, list[Block]]
    untold: dict[tuple[str, ...], int]


def by_method(
    runs: Sequence[Block], program: Methods | None, method: str | Sequence[str] | None
) -> Sorted:
    """method: of all runs, or of each in turn; else the program's, or "method 1", "method 2" ..

    Raises ValueError where `method` has another number of names than there are runs.
    """
    if method is not None:
        names = [method] * len(runs) if isinstance(method, str) else method
        told = [((name,), run) for name, run in zip(names, runs, strict=True)]
    elif program is not None:
        told = [(tuple(n for n, made in program.items() if _fits(run, made)), run) for run in runs]
    else:
        shapes = list(dict.fromkeys(_shape(run) for run in runs))
        told = [((f"method {shapes.index(_shape(run)) + 1}",), run) for run in runs]
    found = Sorted({}, {})
    for names, run in told:
        if len(names) == 1:
            found.runs.setdefault(names[0], []).append(run)
        else:
            found.untold[names] = found.untold.get(names, 0) + 1
    return found


def _fits(run: Block, made: Mapping[At, Instruction]) -> bool:
    if not made:  # a constant method
        return False
    called = {e.at: e.kind for e in run.events if e.kind in CALLS.values()}
    wanted = {at: CALLS[each.kind] for at, each in made.items() if each.kind in CALLS}
    jumps = any(each.kind == "jump" for each in made.values())
    if not (called.items() <= wanted.items() if jumps else called == wanted):
        return False
    kernels = (e for e in run.events if e.kind == "kernel" and e.at in made)
    return all(_bare(made[e.at].calls) == _bare(e.name.removeprefix(KERNEL)) for e in kernels)


def _bare(op: str) -> str:
    """Without its namespace, which events leave out."""
    return op.rpartition("::")[2]


def _shape(run: Block) -> tuple:
    """What the runs of one method share; a delegate's inside may differ from run to run."""
    return tuple((e.at, e.name) for e in run.events if e.kind in ("operator", "delegate", "kernel"))
