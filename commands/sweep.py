"""`edgevlm sweep`: compile, evaluate and time a grid of options; what is done stays done."""

from __future__ import annotations

from collections import Counter
from time import perf_counter
from typing import Any

from edgevlm.commands.output import Speaker
from edgevlm.commands.session import open_for_answers
from edgevlm.commands.sweep_cell import Bench
from edgevlm.commands.sweep_grid import Point, read_grid
from edgevlm.commands.sweep_plot import NO_PLOT, draw
from edgevlm.commands.sweep_setup import (
    SweepOptions,
    check_values,
    find_dataset,
    find_source,
    new_record,
)
from edgevlm.commands.sweep_store import SweepFolder, check_folder
from edgevlm.commands.sweep_table import cell_line, duration
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import EdgeError

__all__ = ["SweepOptions", "sweep_model"]


def sweep_model(
    model: str, options: SweepOptions, speaker: Speaker | None = None
) -> dict[str, Any]:
    """Measure the cells that are not done yet; the JSON of `edgevlm sweep --json`.

    A cell that is refused or fails is recorded and the sweep goes on; what stops the baseline stops
    the sweep. Raises EV221 (--over), EV310-EV313 (folder), EV1xx (model, data set), EV301, EV302.
    """
    speaker = speaker or Speaker(quiet=True)
    points = read_grid(options.over, options.baseline)
    check_values(points, options)
    check_folder(options.out)
    source = find_source(model)
    dataset = find_dataset(model, options)
    record = new_record(source, dataset, points, options)
    requests = [(p.image, p.question) for p in source.probes]
    del source  # its weights: every compile opens it again
    bench = Bench(model, options.target, dataset, requests, options.n, options.warmup, speaker)
    with SweepFolder(options.out, record, points, force=options.force) as folder:
        waiting = [p for p in points if folder.find(p) is None]
        if done := len(points) - len(waiting):
            speaker.say(f"{done} of {len(points)} cells were done before", "bold")
        _run(folder, waiting, bench, options.keep_bundles)
        plots = draw(folder.record, options.out)
        if not plots:
            speaker.say(NO_PLOT)
        cells = [folder.find(p, failed=True) for p in points]
        count = Counter(cell.status for cell in cells)
        report = folder.record.as_json()
    return {
        "schema": report.pop("schema"),
        "sweep": str(options.out),
        "ok": not count["failed"],
        **{status: count[status] for status in ("done", "refused", "failed")},
        "measured": len(waiting),
        "plots": plots,
        **report,
    }


def _run(folder: SweepFolder, waiting: list[Point], bench: Bench, keep: bool) -> None:
    """Cell by cell, each written down before the next."""
    baseline = next((p for p in folder.points if p.baseline), None)
    if baseline is not None and waiting and baseline not in waiting:
        _reopen(folder, baseline, bench)
    start = perf_counter()
    for i, point in enumerate(waiting):
        left = (perf_counter() - start) / i * (len(waiting) - i) if i else None
        bench.speaker.say(
            f"[{folder.points.index(point) + 1}/{len(folder.points)}] {point.name}"
            + (f", about {duration(left)} left" if left is not None else ""),
            "bold",
        )
        out = folder.place(point)
        try:
            cell = bench.measure(point, out)
        finally:
            if not keep and not point.baseline:
                folder.drop(point)
        if keep and out.exists():
            cell = cell.model_copy(update={"bundle": str(out.relative_to(folder.folder))})
        folder.put(cell)
        bench.speaker.say(f"  {cell_line(cell)}")
    if baseline is not None and not keep:
        folder.drop(baseline)


def _reopen(folder: SweepFolder, baseline: Point, bench: Bench) -> None:
    """The baseline of an interrupted sweep, compiled again where its bundle is gone."""
    cell, out = folder.find(baseline), folder.place(baseline)
    try:
        whole = cell is not None and open_bundle(out).digest == cell.digest
    except EdgeError:
        whole = False
    if not whole:
        bench.speaker.say("the baseline again, to be timed beside the others", "bold")
        bench.compile(baseline, out)
    bench.other = open_for_answers(open_bundle(out)).answerer
