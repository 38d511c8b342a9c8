"""What a worker does: all budgets of one set of classes, one bundle after the other.

The base comes from the cache and is held by the process, with what pictures of a class make of it:
sets that share a class look at its pictures once. What the budgets of a set have in common is found
once, with the first of them (compiler/memo.py). One bundle that fails does not stop the others.
"""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm.commands.begun import Begun, load_begun
from edgevlm.commands.calling import DEBUG, fault_of
from edgevlm.commands.compile_inputs import CalibrationInputs
from edgevlm.commands.finish import Given, finish
from edgevlm.commands.fleet_report import Item, failed, summary
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.memo import ROOM, Memo
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.pass_manager import first_of
from edgevlm.compiler.shelf import Shelf
from edgevlm.devices.host import describe_host
from edgevlm.passes import make_passes

__all__ = ["FITTED", "THREADS", "Group", "derive_group"]

FITTED = "narrow-encoder"  # the pass whose budgets have something in common
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # numpy's
DISK = 2 << 30  # bytes of what pictures made of bases, kept for later calls
HARMLESS = {"keep-classes"}  # in front of that: hidden units of the base do what they did


@dataclass(frozen=True)
class Group:
    """Bundles for the same classes, up to `FITTED` by the same passes."""

    base: Path
    items: tuple[Item, ...]
    calibration: CalibrationInputs


def derive_group(group: Group) -> Iterator[dict[str, Any]]:
    """A row of the report for each item, as soon as its bundle is written."""
    memo = Memo(ROOM)
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
    looks = base.looks
    memo.base = looks if _as_the_base(passes[len(base.applied) :]) else None
    for step in passes:
        if step.name == FITTED:
            step.memo = memo
    looking, fitting = _counted(looks), _counted(memo)

    def record() -> dict[str, Any]:
        stages = {
            "base": {"seconds": round(loaded, 3), "cached": True},
            "pictures": looking(),
            "class_set": fitting(),
        }
        spent = sum(each["seconds"] for each in stages.values())
        stages["budget"] = {"seconds": round(perf_counter() - start - spent, 3)}
        return {"fleet": {"set": item.name, "inputs": item.inputs}, "stages": stages}

    given = Given(item.recipe, passes, group.calibration, item.options.flags.derived)
    finish(base, item.options, given, start, more=record)
    return summary(item, open_bundle(item.options.out).record(), "done")


def _as_the_base(passes: Sequence[Pass]) -> bool:
    """Whether pictures make of the part to be narrowed what they make of the base."""
    return {step.name for step in passes[: first_of(passes, {FITTED})]} <= HARMLESS


def _counted(memo: Memo) -> Callable[[], dict[str, Any]]:
    """What it does from now on."""
    seconds, made, found = memo.seconds, memo.made, memo.found
    return lambda: {
        "seconds": round(memo.seconds - seconds, 3),
        "made": memo.made - made,
        "reused": memo.found - found,
    }


@functools.lru_cache(maxsize=1)
def _base(folder: Path) -> Begun:
    shelf = Shelf(cache_root() / "looks", f"{folder.name} {_rounding()}", DISK)
    return replace(load_begun(folder), looks=Memo(ROOM, shelf=shelf), said=Memo(ROOM))


def _rounding() -> str:
    """What the last bits of sums over pictures hang on."""
    host, threads = describe_host(), [os.environ.get(name) for name in THREADS]
    return f"{host.cpu_model} {host.cpu_flags} {host.cores} {threads}"
