"""Several bundles beside each other: a table, and what is right against what it costs.

Only what was measured in one place and asked the same questions shares a plot; what was predicted
is drawn hollow, and never makes the front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgevlm.devices.report.evaluated import Eval
from edgevlm.devices.report.measured import Profile, is_measured
from edgevlm.devices.report.scatter import Point, scatter
from edgevlm.devices.report.subject import Subject
from edgevlm.devices.report.timing import energy_command, no_energy
from edgevlm.devices.report.words import figure, label, of_how, percent, short

__all__ = ["Front", "compare_notes", "compare_plots", "compare_rows", "wait_title"]

Front = Callable[[Sequence[tuple[float, float]]], list[int]]


def compare_rows(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """A row a bundle and place; bundles without a profile have one too."""
    several = len({p.place for s in subjects for p in s.profiles}) > 1
    rows = []
    for i, subject in enumerate(subjects):
        for profile in subject.profiles or (None,):
            rows.append({"anchor": f"b{i + 1}", **_row(subject, profile, several)})
    return rows


def _row(subject: Subject, profile: Profile | None, several: bool) -> dict[str, Any]:
    """several: machines there are, so that each row says its own."""
    score = subject.evals[0].overall if subject.evals else None
    tokens, quant = subject.tokens, subject.record.quant
    return {
        "name": short(subject.name, 60),
        "source": short(subject.source, 24),
        "tokens": f"{tokens['kept']} / {tokens['of']}",
        "quant": short(quant.scheme, 24) if quant and quant.scheme else "float",
        "mb": f"{subject.megabytes:.2f}",
        "wait": figure(profile and profile.answer_ms),
        "fps": figure(profile and profile.fps),
        "right": percent(score and score.accuracy),
        "interval": f"{percent(score.low)} – {percent(score.high)}" if score else "–",
        "asked": subject.evals[0].asked if subject.evals else "–",
        "n": f"{score.n:,}" if score else "–",
        "joules": figure(profile and profile.energy_j_per_answer),
        "place": short(profile.place, 40) if several and profile else "",
        "how": of_how(profile.how) if profile else "not measured",
        "sort": label(profile.how) if profile else "none",
    }


def wait_title(subjects: Sequence[Subject]) -> str:
    """What the column of times is of."""
    kinds = {s.kind == "vlm" for s in subjects}
    return (
        "first token or picture ms"
        if len(kinds) > 1
        else f"{'first token' if True in kinds else 'picture'} ms"
    )


def compare_notes(subjects: Sequence[Subject]) -> list[str]:
    """What the columns of the table do not share, so that nobody compares it unawares."""
    notes = []
    asked = dict.fromkeys(
        f"{s.evals[0].asked}, n = {s.evals[0].overall.n:,}" for s in subjects if s.evals
    )
    if len(asked) > 1:
        notes.append(f"Right answers are on different questions: {'; '.join(asked)}.")
    elif asked:
        notes.append(f"Right answers are on {next(iter(asked))}.")
    places = dict.fromkeys(p.place for s in subjects for p in s.profiles)
    if len(places) > 1:
        notes.append(f"Times are of different machines: {'; '.join(places)}.")
    elif places:
        notes.append(f"Times are of {next(iter(places))}.")
    if not any(p.energy_j_per_answer is not None for s in subjects for p in s.profiles):
        first = next((s for s in subjects if s.measured), subjects[0])
        why = no_energy(first.measured[0] if first.measured else None)
        told = f"Energy: {why[:1].lower()}{why[1:]}"
        notes.append(f"{told} On a device that has a meter: {energy_command(first)}")
    return notes


@dataclass(frozen=True)
class _Cost:
    title: str
    of: Callable[[Subject, Profile | None], float | None]
    unit: str
    timed: bool  # it is a place's, and so is who is compared


COSTS = (
    _Cost("{wait}, ms", lambda _, p: p and p.answer_ms, "ms", True),
    _Cost("MB on disk", lambda s, _: s.megabytes, "MB", False),
    _Cost("J an answer, idle included", lambda _, p: p and p.energy_j_per_answer, "J", True),
)


def compare_plots(subjects: Sequence[Subject], front: Front) -> list[dict[str, Any]]:
    """For the template; a plot for every cost and all that at least two bundles share.

    front: places of the (cost, gain) points that nothing beats.
    """
    plots = []
    asked = dict.fromkeys((s.kind, e.key) for s in subjects for e in s.evals)
    for kind, key in asked:
        known = [
            (s, e)
            for s in subjects
            for e in s.evals
            if (s.kind, e.key) == (kind, key) and e.overall.accuracy is not None
        ]
        for cost in COSTS:
            for place, rows in _groups(cost, known):
                if len({s.name for s, *_ in rows}) > 1:
                    plots.append(_plot(cost, place, rows, front))
    return plots


Row = tuple[Subject, Eval, Profile | None, float]


def _groups(cost: _Cost, known: Sequence[tuple[Subject, Eval]]) -> list[tuple[str, list[Row]]]:
    """By place; predictions go with what was measured of the same name, told apart there."""
    if not cost.timed:
        return [("", [(s, e, None, cost.of(s, None) or 0.0) for s, e in known])]
    groups: dict[str, list[Row]] = {}
    for subject, one in known:
        for profile in subject.profiles:
            value = cost.of(subject, profile)
            if value is not None:
                groups.setdefault(profile.place, []).append((subject, one, profile, value))
    return list(groups.items())


def _plot(cost: _Cost, place: str, rows: Sequence[Row], front: Front) -> dict[str, Any]:
    sure = [i for i, (_, _, p, _) in enumerate(rows) if p is None or is_measured(p.how)]
    gains = [(rows[i][3], rows[i][1].overall.accuracy or 0.0) for i in sure]
    best = {sure[k] for k in front(gains)}
    subject, one = rows[0][0], rows[0][1]
    title = cost.title.format(wait=subject.wait)
    points = [_point(cost, row, i in best, i in sure) for i, row in enumerate(rows)]
    where = f" on {place}" if place else ""
    return {
        **scatter(points, title, "% right"),
        "caption": f"{one.asked}: right answers against {title.removesuffix(', ms')}{where}",
        "aria": "; ".join(p.title + (", on the front" if p.best else "") for p in points),
    }


def _point(cost: _Cost, row: Row, best: bool, sure: bool) -> Point:
    subject, one, profile, value = row
    known = "" if sure else f", {of_how(profile.how if profile else None)}"
    score = one.overall
    told = f"{figure(value)} {cost.unit}, {percent(score.accuracy)} % right (n = {score.n:,})"
    return Point(
        name=subject.name.removesuffix(".edgevlm") + known,
        x=value,
        y=100 * (score.accuracy or 0.0),
        low=100 * score.low,
        high=100 * score.high,
        best=best,
        sure=sure,
        title=f"{subject.name}: {told}{known}",
    )
