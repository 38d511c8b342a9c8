"""One cell of a sweep: compile a point, ask it the data set, time it beside the baseline."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgevlm.commands.calling import DEBUG, fault_of
from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.evaluate import score
from edgevlm.commands.output import Speaker
from edgevlm.commands.session import Opened, open_for_answers
from edgevlm.commands.sweep_grid import Point
from edgevlm.commands.sweep_record import Cell, Fault, Share, Size, Timing
from edgevlm.commands.sweep_timing import Ask, turn_about
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.devices.host import describe_host
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import Dataset
from edgevlm.models.datasets.scoring import Score

__all__ = ["Bench"]

#: where the folder cannot be written, no further cell can be recorded either
FATAL = ("EV310", "EV311")


@dataclass
class Bench:
    """What all cells share. `other` is the baseline, once it is there."""

    model: str
    target: str
    dataset: Dataset | None
    requests: list[tuple[np.ndarray, str]]
    n: int
    warmup: int
    speaker: Speaker
    other: Answerer | None = None
    _stages: int = field(default=1, init=False)  # that a compile goes through, once known

    def measure(self, point: Point, out: Path) -> Cell:
        """A cell, whatever happens to it; the bundle is left at `out`.

        Raises EV310 and EV311, what is no Exception (a signal), and whatever befalls the baseline.
        """
        cell = Cell(
            name=point.name, options=dict(point.options), baseline=point.baseline, status="done"
        )
        found: dict[str, Any] = {}
        try:
            self._steps(point, out, found)
        except Exception as error:
            fault = fault_of(error)
            if fault.code in FATAL or point.baseline:
                raise
            if os.environ.get(DEBUG):
                traceback.print_exception(error)
            found["fault"] = Fault(**{key: text[:2000] for key, text in fault.as_json().items()})
            found["status"] = "refused" if _refused(fault) else "failed"
        return cell.model_copy(update=found)

    def compile(self, point: Point, out: Path) -> dict[str, Any]:
        """Raises EV1xx to EV3xx."""
        # payoff: what `compile` would time, `_time` does at length, and refuses nothing for it
        options = options_of(self.target, out, **point.keywords, force=True, payoff="none")
        with self.speaker.bar("  compile") as advance:
            done = 0

            def begin(stage: str) -> None:
                nonlocal done
                advance(done, max(self._stages, done + 1))
                done += 1

            report = compile_model(self.model, options, begin)
            self._stages = done
            advance(done, done)
        return report

    def _steps(self, point: Point, out: Path, found: dict[str, Any]) -> None:
        """Fills `found` step by step: what a failing cell got to is kept."""
        seconds = found["seconds"] = {}
        with _timed(seconds, "compile"):
            report = self.compile(point, out)
        opened = open_for_answers(open_bundle(out))
        tokens = image_tokens(opened.contract)
        found["digest"] = report["digest"]
        found["size"] = Size(
            kept=tokens["kept"],
            of=tokens["of"],
            average=float(tokens["average"]),
            kv_bytes=tokens["kv_bytes"],
            bundle_bytes=opened.bundle.bytes,
        )
        agree = report["answers"]
        found["agreement"] = _share(Score(agree["probes"], agree["agree_with_source"]).as_json())
        if self.dataset is not None:
            with _timed(seconds, "eval"), self.speaker.bar("  eval   ") as advance:
                tally = score(opened.answerer, self.dataset, advance)
            found["accuracy"] = _share(tally["overall"])
            found["kinds"] = {kind: _share(one) for kind, one in tally["kinds"].items()}
        with _timed(seconds, "profile"), self.speaker.bar("  profile") as advance:
            found["timing"] = self._time(point, opened, out, advance)

    def _time(
        self, point: Point, opened: Opened, out: Path, advance: Callable[[int, int], None]
    ) -> Timing:
        """The baseline is timed beside itself, opened twice: how far from 1 is noise."""
        if point.baseline:
            self.other = open_for_answers(open_bundle(out)).answerer
        ask = self._ask(opened.answerer)
        other = None if self.other is None else self._ask(self.other)
        own, base, ratio = turn_about(ask, other, n=self.n, warmup=self.warmup, advance=advance)
        stages = {name: summary.p50_ms for name, summary in own.stages.items()}
        load = describe_host().load_average
        return Timing(
            ttft_ms=own.ttft_ms,
            baseline_ms=base.ttft_ms if base else None,
            ratio=ratio.median if ratio else None,
            low=ratio.low if ratio else None,
            high=ratio.high if ratio else None,
            decode_ms=stages.get("decode"),
            stages=stages,
            load=load[0] if load else None,
            n=self.n,
        )

    def _ask(self, answerer: Answerer) -> Ask:
        def once(i: int) -> dict[str, list[float]]:
            rgb, question = self.requests[i % len(self.requests)]
            return answerer.answer(rgb, question).seconds

        return once


def _share(score: dict[str, Any]) -> Share:
    return Share(**{name: score[name] for name in ("n", "correct", "accuracy", "low", "high")})


def _refused(fault: EdgeError) -> bool:
    """Whether this combination cannot be had, so that another try would end alike."""
    return isinstance(fault, UsageFault) or fault.code.startswith("EV2") or fault.code == "EV303"


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = perf_counter()
    try:
        yield
    finally:
        seconds[name] = round(perf_counter() - start, 2)
