"""Pictures of a folder that numbers are fitted to: loose ones, or a sub-folder for each class.

    FOLDER/*.png             pictures of nobody knows what
    FOLDER/<class>/*.png     pictures of a class each, named as `class_names` reads names

The files may be a stranger's. One that cannot be read is left out and counted, up to one in twenty:
a few damaged files among thousands are normal, more of them are another problem. Of sub-folders
nothing is read that a link has outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.beside import Probe
from edgevlm.compiler.class_names import find, nearest
from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.models.probes import MAX_PROBES, QUESTIONS, SUFFIXES
from edgevlm.models.processing.image import load_image
from edgevlm.models.strangers import MOST, check_readable, leads_out, named

__all__ = ["CalibrationSet", "class_folders", "flat_folder", "in_turns", "of_class_folders"]


@dataclass(frozen=True)
class CalibrationSet:
    """Pictures (with what they show, where that is known), and what a user has to be told."""

    probes: tuple[Probe, ...]
    notes: tuple[str, ...] = ()


def class_folders(folder: Path) -> list[Path]:
    """The sub-folders, in name order; hidden ones are none."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def flat_folder(folder: Path) -> CalibrationSet:
    """The first 64 pictures in name order. Raises EV134 (none), EV138 (too many broken)."""
    return _read(folder, [[(path, None) for path in _pictures(folder)]], MAX_PROBES)


def of_class_folders(
    folder: Path, names: Sequence[str], shrink: Callable[[np.ndarray], np.ndarray]
) -> CalibrationSet:
    """The classes in turns, the first pictures of each in name order, 4096 at the most.

    `answer` is the name of the class as in `names`. shrink: makes a picture that is larger than the
    model looks at smaller. Raises EV134 (no picture), EV137 (a sub-folder that is no class, a
    picture beside the sub-folders, a link that leads out of the folder), EV138.
    """
    if not names:
        raise UsageFault(
            "EV137",
            f"{named(folder)} has sub-folders",
            "the model has no class names, so there is no telling what they are",
            "labels = [...] in the sidecar of its ONNX file, or a folder of pictures alone",
        )
    if loose := _pictures(folder):
        raise UsageFault(
            "EV137",
            f"{named(folder)} has sub-folders and {named(loose[0])} beside them",
            "a picture beside the sub-folders has no class",
            "put it into the sub-folder of its class, or elsewhere",
        )
    found = [(sub, names[_class(sub, names)]) for sub in class_folders(folder)]
    groups = [[(path, name) for path in _inside(folder, sub)] for sub, name in found]
    return _read(folder, groups, max(1, MOST // len(groups)), shrink)


def in_turns(groups: Sequence[Sequence[Any]]) -> list[Any]:
    """The first of each, then the second of each, and so on."""
    return [item for turn in zip_longest(*groups) for item in turn if item is not None]


def _class(sub: Path, names: Sequence[str]) -> int:
    at = find(names, sub.name)
    if len(at) == 1:
        return at[0]
    near = nearest(names, sub.name)
    raise UsageFault(
        "EV137",
        f"sub-folder {named(sub)} of {named(sub.parent)}",
        f"{len(at)} classes of the model have this name"
        if at
        else "the model has no class of this name"
        + (f"; the nearest: {', '.join(near)}" if near else ""),
        f"rename it to {near[0]}, or move it elsewhere" if near else "move it elsewhere",
    )


def _pictures(folder: Path) -> list[Path]:
    """Those of a folder in name order; hidden files, which some systems strew about, are none."""
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir()
    )


def _inside(root: Path, sub: Path) -> list[Path]:
    """The pictures of a sub-folder. Raises EV137 where it, or one of them, lies elsewhere."""
    for path in (sub, *(found := _pictures(sub))):
        if leads_out(root, path):
            raise UsageFault(
                "EV137",
                f"{path.relative_to(root)} of {named(root)}"[:200],
                "it is a link that leads out of the folder",
                "copy the pictures into the folder",
            )
    return found


def _read(
    folder: Path,
    groups: Sequence[Sequence[tuple[Path, str | None]]],
    each: int,
    shrink: Callable[[np.ndarray], np.ndarray] = lambda rgb: rgb,
) -> CalibrationSet:
    wanted, total = in_turns([group[:each] for group in groups]), sum(map(len, groups))
    if not wanted:
        raise UsageFault(
            "EV134",
            f"calibration folder {named(folder)}",
            f"it has no {', '.join(SUFFIXES)} file",
            "give a folder of pictures, or one with a sub-folder of pictures for each class",
        )
    probes, broken = [], []
    for path, name in wanted:
        try:
            image = shrink(load_image(path))
        except EdgeError as fault:
            broken.append((str(path.relative_to(folder)), fault))
            continue
        probes.append(Probe(image=image, question=QUESTIONS[0], answer=name))
    check_readable(folder, broken, len(wanted))
    return CalibrationSet(tuple(probes), tuple(_notes(len(wanted), total, [b for b, _ in broken])))


def _notes(tried: int, total: int, broken: Sequence[str]) -> list[str]:
    notes = []
    if tried < total:
        notes.append(f"of {total} calibration pictures the first {tried} were looked at")
    if broken:
        notes.append(
            f"{len(broken)} of {tried} calibration pictures cannot be read and were left out; the "
            f"first: {broken[0][:120]}"
        )
    return notes
