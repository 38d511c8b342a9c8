"""What a worker does: all budgets of one set of classes, one bundle after the other.

The base comes from the cache and is held by the process; what the budgets have in common is found
once, with the first of them (compiler/memo.py). One bundle that fails does not stop the others.
"""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm.commands.begun import Begun, load_begun
from edgevlm.commands.calling import DEBUG, fault_of
from edgevlm.commands.compile_inputs import CalibrationInputs
from edgevlm.commands.finish import Given, finish
from edgevlm.commands.fleet_report import Item, failed, summary
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.memo import Memo
from edgevlm.passes import make_passes

__all__ = ["FITTED", "Group", "derive_group"]

FITTED = "narrow-encoder"  # the pass whose budgets have something in common
SHARED_BYTES = 1 << 30  # of one process


@dataclass(frozen=True)
class Group:
    """Bundles for the same classes, up to `FITTED` by the same passes."""

    base: Path
    items: tuple[Item, ...]
    calibration: CalibrationInputs


def derive_group(group: Group) -> Iterator[dict[str, Any]]:
    """A row of the report for each item, as soon as its bundle is written."""
    memo = Memo(SHARED_BYTES)
    for item in group.items:
        start = perf_counter()
        try:
            yield _derive(group, item, memo, start)
        except Exception as error:
            if os.environ.get(DEBUG):
                traceback.print_exception(error)
            yield failed(item, fault_of(error), perf_counter() - start)


def _derive(group: Group, item: Item, memo: Memo, start: float) -> dict[str, Any]:
    base = _base(group.base).for_classes(item.options.flags.derived)
    loaded = perf_counter() - start
    passes = make_passes(item.recipe)
    for step in passes:
        if step.name == FITTED:
            step.memo = memo
    spent, made, found = memo.seconds, memo.made, memo.found

    def record() -> dict[str, Any]:
        fitting = memo.seconds - spent
        rest = perf_counter() - start - loaded - fitting
        return {
            "fleet": {"set": item.name, "inputs": item.inputs},
            "stages": {
                "base": {"seconds": round(loaded, 3), "cached": True},
                "class_set": {
                    "seconds": round(fitting, 3),
                    "made": memo.made - made,
                    "reused": memo.found - found,
                },
                "budget": {"seconds": round(rest, 3)},
            },
        }

    given = Given(item.recipe, passes, group.calibration, item.options.flags.derived)
    finish(base, item.options, given, start, more=record)
    return summary(item, open_bundle(item.options.out).record(), "done")


@functools.lru_cache(maxsize=1)
def _base(folder: Path) -> Begun:
    return load_begun(folder)
