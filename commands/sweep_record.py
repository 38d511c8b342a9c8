"""What a sweep found, as it is in `sweep.json`: settings, and a cell for each point of the grid.

A cell is written once and read again by a resumed sweep, maybe from a folder of a stranger, so that
every field is checked. Times are ms, sizes bytes; shares are 0 to 1 with a Wilson 95 % interval.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgevlm.commands.pareto import front

__all__ = ["Cell", "Fault", "Record", "Settings", "Share", "Size", "Timing"]

Text = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Settings(_Strict):
    """What all cells of a folder have in common; figures of other settings may not be mixed in."""

    edgevlm: Text
    model: Text
    source: Text  # digest of the model
    target: Text
    toolchain: dict[str, Text]
    dataset: Text | None
    split: Text | None
    questions: Text | None  # digest of what is asked; None without a data set
    limit: Count | None
    n: Count  # timed requests
    warmup: Count
    baseline: dict[str, Text] | None  # its options; None without one
    cpu_model: Text | None
    cores: Count

    @property
    def digest(self) -> str:
        text = json.dumps(self.model_dump(), sort_keys=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class Fault(_Strict):
    """The three lines of an error."""

    code: Text
    what: Text
    why: Text
    next: Text


class Share(_Strict):
    """`correct` of `n`."""

    n: Count
    correct: Count
    accuracy: Part
    low: Part
    high: Part
    how: Literal["measured-host"] = "measured-host"


class Size(_Strict):
    """Counted from the contract and the files."""

    kept: Count  # image tokens behind the last site
    of: Count  # that the connector gives unpruned
    average: float = Field(ge=0, allow_inf_nan=False)  # over the caches of the decoder's layers
    kv_bytes: Count  # of the caches of all layers
    bundle_bytes: Count


class Timing(_Strict):
    """Medians over `n` requests, and the same requests of the baseline in between."""

    ttft_ms: Positive
    baseline_ms: Positive | None  # ttft of the baseline in the same minutes
    ratio: Positive | None  # ttft to the baseline's, median of pairs
    low: Positive | None  # 95 % interval of it
    high: Positive | None
    decode_ms: Positive | None  # a token; None where no answer had a second token
    stages: dict[str, Positive]
    load: float | None = Field(allow_inf_nan=False)  # runnable threads in the minute before
    n: Count
    how: Literal["measured-host"] = "measured-host"


class Cell(_Strict):
    """One point: done, refused (this combination cannot be compiled) or failed (a crash)."""

    name: Text
    options: dict[str, Text]
    baseline: bool
    status: Literal["done", "refused", "failed"]
    fault: Fault | None = None
    size: Size | None = None
    agreement: Share | None = None  # probe answers that are the source's
    accuracy: Share | None = None  # on the data set; None without one
    kinds: dict[str, Share] = {}
    timing: Timing | None = None
    seconds: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    bundle: Text | None = None  # its place in the folder, if it was kept
    digest: Text | None = None  # of the bundle
    x_ms: Positive | None = None  # where it stands in the plot
    on_front: bool = False

    @property
    def score(self) -> Share | None:
        """The y axis."""
        return self.accuracy or self.agreement


class Record(_Strict):
    """sweep.json."""

    schema_: Literal[1] = Field(1, alias="schema")
    settings: Settings
    settings_digest: Text
    host: dict[str, Any]
    tools: dict[str, Text | None]
    score: Literal["accuracy", "agreement"]
    metric: Text
    over: dict[str, list[Text]]  # of the last call
    baseline_ms: Positive | None = None
    cells: tuple[Cell, ...] = Field((), strict=False)

    def placed(self) -> Record:
        """With the place of every cell in the plot, and the front.

        x is the ratio to the baseline, measured turn about, times the baseline's ms, which is the
        median over what it took beside each of the cells. Without a baseline it is the cell's ms.
        """
        beside = sorted(c.timing.baseline_ms for c in self.cells if c.timing and c.timing.ratio)
        base = beside[len(beside) // 2] if beside else None
        cells = [c.model_copy(update={"x_ms": _x(c, base), "on_front": False}) for c in self.cells]
        known = [i for i, c in enumerate(cells) if c.x_ms is not None and c.score is not None]
        for k in front([(cells[i].x_ms, cells[i].score.accuracy) for i in known]):
            cells[known[k]] = cells[known[k]].model_copy(update={"on_front": True})
        return self.model_copy(update={"baseline_ms": base, "cells": tuple(cells)})

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def _x(cell: Cell, base: float | None) -> float | None:
    if cell.timing is None:
        return None
    if cell.baseline and base is not None:
        return base
    return cell.timing.ratio * base if cell.timing.ratio and base else cell.timing.ttft_ms
