"""The folder of a sweep: one sweep at a time, whole files only, and what is done stays done.

sweep.json   settings and cells, written after every cell
sweep.csv    the same, a row a cell
pareto.png, pareto.svg
cells/       bundles: while they are measured, or for good with --keep-bundles
.lock        held while a sweep is at work; the kernel lets go of it when that is killed
"""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from pydantic import ValidationError

from edgevlm.commands.folder_lock import LOCK, lock_folder
from edgevlm.commands.sweep_csv import csv_text
from edgevlm.commands.sweep_grid import Point
from edgevlm.commands.sweep_record import Cell, Record
from edgevlm.compiler.atomic import atomic_file, check_target, disk_fault
from edgevlm.compiler.errors import UsageFault

__all__ = ["SweepFolder", "check_folder"]

JSON, CSV, CELLS = "sweep.json", "sweep.csv", "cells"
PLOTS = ("pareto.png", "pareto.svg")
OURS = {JSON, CSV, CELLS, LOCK, *PLOTS}
#: settings that say nothing to a person
DIGESTS = {"source": "another state of the model", "questions": "other questions"}
MAX_JSON_BYTES = 64 * 2**20


class SweepFolder:
    """Opened for one sweep; `record` is what is known so far."""

    def __init__(
        self, folder: Path, record: Record, points: list[Point], *, force: bool = False
    ) -> None:
        """Raises EV310-EV312 for a folder that cannot take a sweep."""
        self.folder, self.record, self.points, self.force = folder, record, points, force
        check_folder(folder)

    def __enter__(self) -> SweepFolder:
        """Take the lock, read what is done, remove what a killed sweep left. Raises EV311-EV313."""
        self._lock = lock_folder(self.folder, "sweep")
        try:
            self._resume()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """A sweep that did not get to its first cell leaves nothing."""
        if not self.record.cells:
            for name in OURS:
                _delete(self.folder / name)
            with contextlib.suppress(OSError):
                self.folder.rmdir()
        self._lock.release()

    def find(self, point: Point, *, failed: bool = False) -> Cell | None:
        """The cell of a point; one that failed counts only if asked for, as it is tried again."""
        for cell in self.record.cells:
            same = _key(cell) == (point.baseline, dict(point.options))
            if same and (failed or cell.status != "failed"):
                return cell
        return None

    def put(self, cell: Cell) -> None:
        """Add a cell, or put it in place of its last try, and write everything."""
        rest = [c for c in self.record.cells if _key(c) != _key(cell)]
        self.record = self.record.model_copy(update={"cells": (*rest, cell)})
        self.write()

    def write(self) -> None:
        """Raises EV311."""
        order = [(p.baseline, dict(p.options)) for p in self.points]
        cells = sorted(  # as in the grid; those of earlier, other grids come last
            self.record.cells,
            key=lambda c: order.index(_key(c)) if _key(c) in order else len(order),
        )
        self.record = self.record.model_copy(update={"cells": tuple(cells)}).placed()
        text = json.dumps(self.record.as_json(), indent=1, allow_nan=False) + "\n"
        atomic_file(self.folder / JSON, text.encode())
        atomic_file(self.folder / CSV, csv_text(self.record.cells).encode())

    def place(self, point: Point) -> Path:
        """Where to compile a point to. Raises EV311."""
        home = self.folder / CELLS
        try:
            home.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_fault(self.folder, error) from error
        return home / _bundle_name(point)

    def drop(self, point: Point) -> None:
        """Remove the bundle of a point, if there is one."""
        shutil.rmtree(self.folder / CELLS / _bundle_name(point), ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / CELLS).rmdir()  # when that was the last one

    def _resume(self) -> None:
        old = _read(self.folder) if (self.folder / JSON).exists() else None
        if self.force:
            for name in OURS - {LOCK}:
                _delete(self.folder / name)
        elif isinstance(old, str):
            raise _taken(self.folder, f"its {JSON} cannot be read: {old}")
        elif old is not None and old.cells:
            if differs := _differences(old, self.record):
                raise _taken(self.folder, f"it was made with {differs}")
            self.record = self.record.model_copy(update={"cells": old.cells})
        self._clean()
        self.write()

    def _clean(self) -> None:
        """We have the lock: whatever is half-written has no writer any more.

        The bundle of the baseline stays for the cells that are still to come.
        """
        kept = {Path(cell.bundle or "").name for cell in self.record.cells}
        kept |= {_bundle_name(point) for point in self.points if point.baseline}
        for path in self.folder.glob(".*.part"):
            path.unlink(missing_ok=True)
        home = self.folder / CELLS
        for path in [] if home.is_symlink() else home.glob("*"):
            ours = path.suffix == ".edgevlm" or ".draft-" in path.name
            if ours and path.name not in kept and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Refuse early: there is something else at this place. Raises EV310, EV311, EV312."""
    if not folder.exists() or folder.is_symlink():
        check_target(folder, force=False)
        return
    if not folder.is_dir():
        raise _foreign(folder, "it is a file")
    foreign = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in OURS and not (path.name.startswith(".") and path.suffix == ".part")
    )
    if foreign and not (folder / JSON).is_file():
        raise _foreign(folder, f"it holds {foreign[0]}")


def _bundle_name(point: Point) -> str:
    return f"{point.slug}.edgevlm"


def _key(cell: Cell) -> tuple[bool, dict[str, str]]:
    return cell.baseline, cell.options


def _read(folder: Path) -> Record | str:
    """The record, or why there is none."""
    try:
        with (folder / JSON).open("rb") as file:
            text = file.read(MAX_JSON_BYTES + 1)
        if len(text) > MAX_JSON_BYTES:
            return "it is too big"
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    except OSError as error:
        return error.strerror or str(error)


def _differences(old: Record, new: Record) -> str:
    """The settings that differ, as a person would say it."""
    a, b = old.settings.model_dump(), new.settings.model_dump()
    differ = [key for key in a if a[key] != b[key]]
    plain = [key for key in differ if key not in DIGESTS]
    told = [f"{key} {_said(a[key])} (now {_said(b[key])})" for key in plain]
    return ", ".join(told or [DIGESTS[key] for key in differ])


def _said(value: object) -> str:
    text = "none" if value in (None, {}) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _foreign(folder: Path, why: str) -> UsageFault:
    return UsageFault(
        "EV312", f"{folder} is no sweep's", why, "choose another -o: a new folder, or a sweep's own"
    )


def _taken(folder: Path, why: str) -> UsageFault:
    return UsageFault(
        "EV312",
        f"folder {folder} holds another sweep",
        why,
        "choose another -o, or add --force to start anew there",
    )
