"""The plot of a sweep: accuracy against time to first token, with the Pareto front.

One colour a method, one marker a variant of it, the tokens kept beside each point. Upright bars are
Wilson 95 % intervals, level ones the 95 % interval of the ratio to the baseline. matplotlib comes
with the `report` extra and is imported here only.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.commands.colours import COLOURS
from edgevlm.commands.sweep_record import Cell, Record
from edgevlm.compiler.atomic import atomic_file

__all__ = ["NO_PLOT", "draw"]

NO_PLOT = "no plot: it needs matplotlib, pip install 'edgevlm[report]', then the same command again"
MARKERS = "osD^vP<>Xph"
#: where a label may stand around its point, in points; the first that is free is taken
PLACES = ((7, 6), (7, -12), (-7, 6), (-7, -12), (0, 12), (0, -19), (18, 0), (-18, 0),
          (16, 16), (16, -22), (-16, 16), (-16, -22), (30, 10), (-30, 10))  # fmt: skip
SIZE, CROWD_SIZE, CROWD = (9, 5.6), (13, 8.5), 24  # inches; from so many cells on
FOOT_LINES = 4  # of cells that are not in the plot


def draw(record: Record, folder: Path) -> list[str]:
    """Write pareto.png and pareto.svg; their names, or none without matplotlib. Raises EV311."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return []
    names = []
    style = {"svg.hashsalt": record.settings_digest, "svg.fonttype": "none", "font.size": 9}
    with rc_context(style):
        figure = Figure(figsize=CROWD_SIZE if _crowded(record) else SIZE, layout="constrained")
        _fill(figure, record)
        for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
            data = io.BytesIO()
            figure.savefig(data, format=kind, **options)
            names.append(f"pareto.{kind}")
            atomic_file(folder / names[-1], data.getvalue())
    return names


@dataclass(frozen=True)
class Look:
    """How a cell is drawn. Cells that differ in their budget alone look the same."""

    name: str
    colour: str
    marker: str
    size: float = 6.5


def _fill(figure: Any, record: Record) -> None:
    axes = figure.subplots()
    cells = [c for c in record.cells if c.status == "done" and c.x_ms is not None]
    looks = _looks(cells)
    best = sorted((c for c in cells if c.on_front), key=_x)
    axes.step(
        [*map(_x, best)], [*map(_percent, best)], where="post", color="#D0D0D0", linewidth=5,
        solid_capstyle="round", zorder=1, label="Pareto front",
    )  # fmt: skip
    axes.plot(
        [*map(_x, best)], [*map(_percent, best)], "o", markersize=12, color="#D0D0D0", zorder=1
    )
    faint = 0.2 if _crowded(record) else 0.4
    for look in dict.fromkeys(looks):
        own = [c for c, its in zip(cells, looks, strict=True) if its == look]
        own.sort(key=lambda c: c.size.average)  # the line goes from budget to budget
        x, y = [*map(_x, own)], [*map(_percent, own)]
        up = [[100 * c.score.high - 100 * c.score.accuracy for c in own]]
        down = [[100 * c.score.accuracy - 100 * c.score.low for c in own]]
        axes.errorbar(
            x, y, xerr=_level(own), yerr=down + up, fmt="none", ecolor=look.colour, elinewidth=1,
            alpha=faint, zorder=2,
        )  # fmt: skip
        axes.plot(x, y, color=look.colour, linewidth=0.8, alpha=0.6, zorder=2)
        axes.plot(
            x, y, look.marker, color=look.colour, markersize=look.size, markeredgecolor="white",
            markeredgewidth=0.6, zorder=4 if look.marker == "*" else 3, label=look.name,
        )  # fmt: skip
    axes.margins(0.08)
    if cells:  # an interval may be as wide as a busy machine makes it, and then leaves the plot
        left, right = min(map(_x, cells)), max(map(_x, cells))
        room = max(0.15 * (right - left), 0.02 * right)
        axes.set_xlim(left - room, right + room)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(_x_label(record))
    axes.set_ylabel(
        "right answers, % (Wilson 95 %)"
        if record.score == "accuracy"
        else "probe answers as the source gives them, % (Wilson 95 %)"
    )
    axes.set_title(_title(record, cells), loc="left")
    if cells:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    if foot := _foot(record):
        figure.supxlabel(foot, x=0.01, ha="left", fontsize=7, color="#555555")
    _label(figure, axes, cells, looks)


def _label(figure: Any, axes: Any, cells: list[Cell], looks: list[Look]) -> None:
    """The tokens kept beside each point, where no other label or point is; the front's first."""
    figure.draw_without_rendering()  # the layout, and with it where the points are
    points = axes.transData.transform([(c.x_ms, _percent(c)) for c in cells] or [(0, 0)])
    taken = [_box(x, y, 10, 10) for x, y in points]
    scale = figure.dpi / 72
    for i in sorted(range(len(cells)), key=lambda i: not _must(cells[i])):
        cell, (x, y) = cells[i], points[i]
        text = f"{cell.size.average:.4g}"
        wide, high = 6.4 * len(text) * scale, 9 * scale
        boxes = [_box(x + dx * scale, y + (dy + 4) * scale, wide, high) for dx, dy in PLACES]
        free = [k for k, b in enumerate(boxes) if not any(_meet(b, other) for other in taken)]
        if not free and not _must(cell):
            continue  # it is in the table
        k = free[0] if free else 0
        taken.append(boxes[k])
        axes.annotate(
            text, (cell.x_ms, _percent(cell)), xytext=PLACES[k], textcoords="offset points",
            fontsize=8, ha="center", zorder=5, in_layout=False, color=looks[i].colour,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
        )  # fmt: skip


def _box(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _looks(cells: list[Cell]) -> list[Look]:
    """One a cell: the colour of its method, a marker of its own as long as there are any."""
    values: dict[str, set[str]] = {}
    for key, value in (pair for c in cells if not c.baseline for pair in c.options.items()):
        values.setdefault(key, set()).add(value)
    told = {key for key, seen in values.items() if len(seen) > 1 or key == "prune"} - {"tokens"}
    colours: dict[str, str] = {}
    known: dict[str, Look] = {}
    looks = []
    for cell in cells:
        if cell.baseline:
            looks.append(Look("baseline", "black", "*", 12))
            continue
        words = [v if k == "prune" else f"{k}={v}" for k, v in cell.options.items() if k in told]
        name = " ".join(words) or "budgets"
        method = cell.options.get("prune", "").partition(":")[0]
        colour = colours.setdefault(method, COLOURS[len(colours) % len(COLOURS)])
        used = {look.marker for look in known.values() if look.colour == colour}
        free = [marker for marker in MARKERS if marker not in used] or [MARKERS[-1]]
        looks.append(known.setdefault(name, Look(name, colour, free[0])))
    return looks


def _must(cell: Cell) -> bool:
    """Whether its tokens are told even where there is no room."""
    return cell.on_front or cell.baseline


def _crowded(record: Record) -> bool:
    return len(record.cells) > CROWD


def _x(cell: Cell) -> float:
    return cell.x_ms


def _percent(cell: Cell) -> float:
    return 100 * cell.score.accuracy


def _level(cells: list[Cell]) -> list[list[float]]:
    """The intervals of the ratios in ms, to the left and to the right of the points.

    The baseline's point is at ratio 1; its interval says how far from 1 it was beside itself.
    """
    left, right = [], []
    for cell in cells:
        timing = cell.timing
        at = 1.0 if cell.baseline else timing.ratio
        known = at is not None and timing.ratio is not None
        left.append(cell.x_ms * max(0, 1 - timing.low / at) if known else 0)
        right.append(cell.x_ms * max(0, timing.high / at - 1) if known else 0)
    return [left, right]


def _x_label(record: Record) -> str:
    if record.baseline_ms is None:
        return f"ms to first token (median of {record.settings.n}, each cell at a time of its own)"
    return (
        "ms to first token (ratio to the baseline, timed turn about, "
        f"× its {record.baseline_ms:.2f} ms)"
    )


def _title(record: Record, cells: list[Cell]) -> str:
    s = record.settings
    n = max((c.score.n for c in cells), default=0)
    asked = f"{s.dataset} {s.split}, {n} questions" if s.dataset else f"{n} probes"
    return f"{s.model} on {s.target}: {asked}\nnumbers are image tokens; {s.cpu_model or ''}"


def _foot(record: Record) -> str:
    """The cells that have no point, and why."""
    told: dict[str, list[str]] = {}
    for cell in record.cells:
        if cell.fault:
            why = f"{cell.status}, {cell.fault.code} {cell.fault.what}: "
            told.setdefault(why, []).append(cell.name)
    lines = [why + "; ".join(names) for why, names in told.items()]
    more = len(lines) - FOOT_LINES
    if more > 0:
        lines[FOOT_LINES:] = [f"and {more} more, in sweep.csv"]
    return "\n".join(line if len(line) < 180 else f"{line[:177]}..." for line in lines)
