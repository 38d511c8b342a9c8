"""What a person reads of a sweep: a line when a cell is done, and one table at the end."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker
from edgevlm.commands.sweep_record import Cell

__all__ = ["cell_line", "duration", "sweep_table"]

UNSURE = 0.05  # the share of a ratio from which on a person is warned


def cell_line(cell: Cell) -> str:
    """One cell in one line."""
    if cell.fault is not None:
        return f"{cell.status}, {cell.fault.code}: {cell.fault.what}; {cell.fault.why}"
    score, timing = cell.score, cell.timing
    ratio = f", {timing.ratio:.3f} of the baseline's" if timing.ratio is not None else ""
    return (
        f"{100 * score.accuracy:.2f} % {'right' if cell.accuracy else 'as the source'} "
        f"({100 * score.low:.2f} - {100 * score.high:.2f}), "
        f"{timing.ttft_ms:.2f} ms to first token{ratio}"
    )


def sweep_table(speaker: Speaker, report: dict[str, Any]) -> None:
    """The cells that are done, then those that are not, then where the files are."""
    done = [c for c in report["cells"] if c["status"] == "done"]
    score, settings = report["score"], report["settings"]
    asked = " ".join(filter(None, (settings["dataset"], settings["split"]))) or "the probes"
    keys = _varying(done) or ["cell"]
    speaker.table(
        f"{settings['model']} on {asked}: {report['metric']}",
        [*keys, "kept", f"{'right' if score == 'accuracy' else 'agree'} % [95 %]",
         "TTFT ms", "ratio [95 %]", "decode ms", "KV MB", ""],
        [[*_names(cell, keys), *_figures(cell, score)] for cell in done],
    )  # fmt: skip
    ratio = ", the ratio to the baseline (timed turn about) times its ms"
    timed = any(cell["timing"]["ratio"] is not None for cell in done)
    speaker.say(f"* on the Pareto front; TTFT: ms to the first token{ratio if timed else ''}")
    if (unsure := _unsure(done)) > UNSURE:
        speaker.say(
            f"half of the ratios are known no better than ±{100 * unsure:.0f} %, so the front may "
            "be chance: use a quieter machine or a larger -n, with --force"
        )
    told: dict[tuple[str, ...], list[str]] = {}
    for cell in report["cells"]:
        if fault := cell["fault"]:
            told.setdefault((cell["status"], *fault.values()), []).append(cell["name"])
    for (status, code, what, why, fix), names in told.items():
        speaker.say(f"{status}: {'; '.join(names)}")
        speaker.say(f"  {code} {what}\n  why:  {why}\n  next: {fix}")
    if not report["measured"]:
        speaker.say("nothing was left to do; --force starts anew")
    files = ", ".join(["sweep.json", "sweep.csv", *report["plots"]])
    speaker.say(f"{report['sweep']}: {files}")


def duration(seconds: float) -> str:
    """For an estimate: two seconds more or less do not matter."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _varying(cells: list[dict[str, Any]]) -> list[str]:
    """Keys with more than one value, the baseline left out."""
    values: dict[str, set[str]] = {}
    for key, value in (o for c in cells if not c["baseline"] for o in c["options"].items()):
        values.setdefault(key, set()).add(value)
    return [key for key, seen in values.items() if len(seen) > 1]


def _unsure(cells: list[dict[str, Any]]) -> float:
    """Half the width of the 95 % interval of a ratio, as a share of it: the median cell's."""
    timings = [c["timing"] for c in cells if c["timing"]["ratio"] is not None]
    widths = sorted((t["high"] - t["low"]) / t["ratio"] / 2 for t in timings)
    return widths[len(widths) // 2] if widths else 0.0


def _names(cell: dict[str, Any], keys: list[str]) -> list[str]:
    """The options that vary; the baseline is named by what it is."""
    names = [{"cell": cell["name"], **cell["options"]}.get(key, "") for key in keys]
    return ["baseline", *names[1:]] if cell["baseline"] else names


def _figures(cell: dict[str, Any], score: str) -> list[str]:
    share, timing, size = cell[score], cell["timing"], cell["size"]
    ratio = timing["ratio"]
    return [
        f"{size['average']:.4g}",
        f"{100 * share['accuracy']:.2f} [{100 * share['low']:.1f}-{100 * share['high']:.1f}]",
        f"{cell['x_ms']:.2f}",
        "-" if ratio is None else f"{ratio:.3f} [{timing['low']:.2f}-{timing['high']:.2f}]",
        "-" if timing["decode_ms"] is None else f"{timing['decode_ms']:.2f}",
        f"{size['kv_bytes'] / 1e6:.2f}",
        "*" if cell["on_front"] else "",
    ]
