"""What the vision part takes in the target's runtime, at several widths, measured in turns.

In every turn each part runs a few times, and once before that, which is not timed: it brings the
part's weights back into the caches, as in a request that follows another. So what the machine does
meanwhile hits all parts alike. The figure is the median over turns of the medians within; its 95 %
interval is that of turns, since a disturbance outlasts a run.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import count
from edgevlm.compiler.executor import Feeds, PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.groups import groups_within
from edgevlm.devices.stats import middle
from edgevlm.runtimes.base import Runtime

__all__ = ["PartClock", "Taken", "in_turns"]

ROLE: Role = "vision"
TIMED = 3  # runs of a part in a turn
TURNS = (5, 15)  # at least, at most
SECONDS = 10.0  # of turns that are worth more than the least number of them
HELD_BYTES = 2 << 30  # weights of parts that are open, and written to disk, together

Run = Callable[[], object]


@dataclass(frozen=True)
class Taken:
    """ms a run, and the 95 % interval of that median."""

    ms: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PartClock:
    """Lowers vision parts of one model as the target's runtime does, and times them.

    behind: what the rest of a recipe makes of a model, where what is timed is to go through it.
    """

    model: ExportedModel
    runtime: Runtime
    feeds: Sequence[Feeds]
    behind: Callable[[ExportedModel], ExportedModel] | None = None

    def measure(self, parts: Iterable[ir.Model]) -> list[Taken]:
        """In turns, as many together as may be open at once."""
        groups = groups_within(HELD_BYTES, parts, lambda part: count(part).weight_bytes)
        return [taken for group in groups for taken in self._together(group)]

    def beside(self, finished: PartCaller, part: ir.Model) -> list[Taken]:
        """Of a finished artifact, and of another part in turns with it."""
        with tempfile.TemporaryDirectory() as folder:
            sides = [finished, self._opened(part, Path(folder))]
            return in_turns([self._run(side) for side in sides])

    def _together(self, parts: Sequence[ir.Model]) -> list[Taken]:
        with contextlib.ExitStack() as held:
            folders = [held.enter_context(tempfile.TemporaryDirectory()) for _ in parts]
            opened = [
                self._opened(part, Path(folder))
                for part, folder in zip(parts, folders, strict=True)
            ]
            return in_turns([self._run(each) for each in opened])

    def _opened(self, part: ir.Model, folder: Path) -> PartCaller:
        model = self.model.with_parts(**{ROLE: part})
        model = self.behind(model) if self.behind else model
        alone = replace(model, parts={ROLE: model.parts[ROLE]})
        artifacts = self.runtime.lower(alone, folder)
        return self.runtime.open_artifacts(folder, artifacts, alone.contract)

    def _run(self, opened: PartCaller) -> Run:
        feeds = itertools.cycle(self.feeds)
        return lambda: opened.call(ROLE, next(feeds))


def in_turns(
    runs: Sequence[Run], clock: Callable[[], float] = perf_counter, turns: tuple[int, int] = TURNS
) -> list[Taken]:
    """Each of them, timed by `clock` in seconds."""
    found: list[list[float]] = [[] for _ in runs]
    start, wanted, turn = clock(), turns[0], 0
    while turn < wanted:
        order = range(len(runs)) if turn % 2 else reversed(range(len(runs)))
        for i in order:
            runs[i]()
            found[i].append(median(_ms(runs[i], clock) for _ in range(TIMED)))
        turn += 1
        if turn == 1:
            wanted = max(turns[0], min(turns[1], int(SECONDS / max(clock() - start, 1e-9))))
    return [Taken(*vars(middle(times)).values(), TIMED * turn) for times in found]


def _ms(run: Run, clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return 1000 * (clock() - start)
