"""What a bundle's record.json says of its compile, as far as a report shows it.

The record is told, never relied on; what is in it is bounded like everything else of a stranger.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from edgevlm.devices.report.loose import Amount, Count, How, Loose, Measure, Name, Text
from edgevlm.devices.report.measured import Host

__all__ = ["Drift", "PassRecord", "PreflightTable", "Ratio", "Record", "Turns"]


class Drift(Loose):
    """200 dB stands for no difference at all; None for a reference that is zero."""

    sqnr_db: Measure | None = None
    cosine: Measure | None = None
    max_abs: Amount | None = None
    tensor: Name | None = None
    token_overlap: Amount | None = None
    against: Name | None = None
    how: How | None = None


class Part(Loose):
    role: Name
    bytes: Count = 0
    macs: Count = 0
    nodes: Count = 0
    drift: Drift = Drift()


class Answers(Loose):
    agree_with_source: Count
    chosen_otherwise: Count = 0
    probes: Count
    correct: Count = 0
    labelled: Count = 0


class Ratio(Loose):
    median: Amount
    low: Amount
    high: Amount


class BeforeAfter(Loose):
    before_ms: Amount
    after_ms: Amount


class Turns(Loose):
    """Two models timed turn about."""

    stages: Annotated[dict[Name, BeforeAfter], Field(max_length=32)] = {}
    first_token_ratio: Ratio | None = None
    request_ratio: Ratio | None = None
    slower: bool = False
    n: Count
    how: How

    @property
    def ratio(self) -> Ratio | None:
        return self.first_token_ratio or self.request_ratio


class Drop(Loose):
    of: Name
    before: Amount | None = None
    after: Amount | None = None
    drop_points: Measure | None = None
    n: Count
    how: How


class Quant(Loose):
    scheme: Name = ""
    bits: Amount | None = None
    speed: Turns | None = None
    drop: Drop | None = None


class Note(Loose):
    kind: Name = ""
    where: Text = ""
    why: Text = ""


class Check(Loose):
    parts: Annotated[dict[Name, Drift], Field(max_length=32)] = {}
    logits: Drift | None = None
    answers_agree: Count = 0
    probes: Count = 0


class PassRecord(Loose):
    name: Name
    effect: Name = ""
    options: dict[Name, Any] = {}
    changed: bool = True
    seconds: Amount | None = None
    notes: Annotated[tuple[Note, ...], Field(max_length=100_000)] = ()
    check: Check | None = None


class Derived(Loose):
    kind: Name | None = None
    classes: Annotated[tuple[Name, ...], Field(max_length=100_000)] = ()
    of: Count | None = None
    domain: Text | None = None
    held_out: Count | None = None
    accuracy: dict[Name, Annotated[float, Field(ge=0, le=1)]] = {}
    macs: dict[Name, Count] = {}
    how: How | None = None


class Memory(Loose):
    """Whether it fits into the memory of its target, as compile reckoned."""

    verdict: Name | None = None
    text: Text = ""
    how: How | None = None


class PreflightTable(Loose):
    """A row a part, which comes first in it."""

    headings: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]
    rows: Annotated[tuple[tuple[Name, ...], ...], Field(max_length=32)]

    @model_validator(mode="after")
    def _square(self) -> PreflightTable:
        if any(len(row) != len(self.headings) for row in self.rows):
            raise ValueError("a row has more or fewer cells than there are headings")
        return self


class PreflightRecord(Loose):
    """What a compiler on the host said of the artifacts. Records of before have no table."""

    done: Text | None = None
    missing: Text | None = None
    label: Name = ""
    note: Text = ""
    table: PreflightTable | None = None
    odd: Annotated[tuple[Text, ...], Field(max_length=500)] = ()


class Record(Loose):
    """All of it may be absent: the record is not part of what a bundle needs to run."""

    parts: Annotated[tuple[Part, ...], Field(max_length=32)] = ()
    answers: Answers | None = None
    payoff: Turns | None = None
    quant: Quant | None = None
    derived: Derived | None = None
    passes: Annotated[tuple[PassRecord, ...], Field(max_length=500)] = ()
    notes: Annotated[tuple[Text, ...], Field(max_length=500)] = ()
    memory: Memory | None = None
    preflight: PreflightRecord | None = None
    host: Host = Host()
    seconds: Amount | None = None
    peak_rss_mb: Amount | None = None
