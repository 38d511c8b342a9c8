"""`edgevlm derive`: one model, many sets of classes, a bundle each; what is done stays done.

base        read, cleaned up, tokens reduced, checked: once, kept in the cache
class set   what the pictures of these classes tell: once for all budgets of a set of classes
budget      cut, fitted, quantised, lowered, checked, written: once a bundle
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm.commands.derive_show import row_line
from edgevlm.commands.fleet_local import run_local
from edgevlm.commands.fleet_plan import Plan, ask, groups_of, make_base, plan
from edgevlm.commands.fleet_ray import run_ray
from edgevlm.commands.fleet_report import fleet_report, summary
from edgevlm.commands.fleet_sets import read_sets
from edgevlm.commands.fleet_work import Group
from edgevlm.commands.folder_lock import LOCK, lock_folder
from edgevlm.commands.output import Speaker
from edgevlm.compiler.atomic import check_target, disk_fault
from edgevlm.compiler.bundle import check_bundle, open_bundle
from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.devices.host import describe_host
from edgevlm.models.calibration import calibration_set
from edgevlm.models.source import open_source

__all__ = ["FleetOptions", "derive_models"]

LOCAL, RAY = "local", "ray://"


@dataclass(frozen=True)
class FleetOptions:
    class_sets: Path
    out: Path
    calib: str
    targets: Sequence[str] = ()
    alpha: float | None = None
    jobs: int | None = None  # None: one a core
    on: str = LOCAL  # or ray://HEAD:PORT
    force: bool = False


def derive_models(
    model: str, options: FleetOptions, speaker: Speaker | None = None
) -> dict[str, Any]:
    """Make the bundles that are not there yet; the JSON of `edgevlm derive --json`.

    A set that fails is told and the others go on. Raises, before any work, EV1xx (model, pictures),
    EV135, EV139, EV222, EV250, EV301, EV302 (sets), EV220 (--on, --jobs), EV310-EV313 (folder).
    """
    start = perf_counter()
    speaker = speaker or Speaker(quiet=True)
    cores = describe_host().cores
    jobs = options.jobs or cores
    sets = read_sets(options.class_sets)
    _check_on(options)
    asked = ask(sets, options.targets, options.alpha, options.out, force=options.force)
    _check_out(options.out)
    original = open_source(model)
    found = calibration_set(options.calib, original)
    plans = plan(original, model, asked, found, options.calib)
    timed = [p for p in plans if p.timed]
    if timed and options.on != LOCAL:
        raise UsageFault(
            "EV220",
            f"set {timed[0].item.name!r}: a budget in ms with --on {options.on[:80]}",
            "times would be those of whichever node it comes to",
            "--on local, or alpha in its place",
        )
    with lock_folder(options.out, "derivation"):
        kept = {} if options.force else {p.item.name: _kept(p) for p in plans}
        waiting = [p for p in plans if not kept.get(p.item.name)]
        rows = {name: row for name, row in kept.items() if row}
        if rows:
            speaker.say(f"{len(rows)} of {len(plans)} bundles were made before", "bold")
        bases, base = _bases(original, waiting)
        if waiting:
            here = "in the cache" if base["cached"] else "made"
            speaker.say(f"base {here}, {base['seconds']:.1f} s", "bold")
        del original, found  # workers have their own
        begun = perf_counter()
        try:
            for row in _run(waiting, bases, jobs, cores, options):
                rows[row["name"]] = row
                speaker.say(row_line(row, len(rows), len(plans)))
        except BaseException:
            whole = sum(row["fault"] is None for row in rows.values())
            speaker.say(f"{whole} of {len(plans)} bundles are whole; the same command goes on")
            raise
    head = {"fleet": str(options.out), "model": model, "on": options.on}
    local = jobs if options.on == LOCAL else None
    return fleet_report(head, local, [rows[p.item.name] for p in plans], base, (start, begun))


def _run(
    waiting: Sequence[Plan], bases: dict[str, Path], jobs: int, cores: int, options: FleetOptions
) -> Iterator[dict[str, Any]]:
    """What is timed comes last, and alone on the machine."""
    plain = groups_of([p for p in waiting if not p.timed], bases)
    alone = groups_of([p for p in waiting if p.timed], bases)
    if plain and options.on != LOCAL:
        yield from run_ray(plain, options.on)
    elif plain:
        yield from run_local(_largest_first(plain), jobs, cores)
    yield from run_local(alone, 1, cores)


def _largest_first(groups: list[Group]) -> list[Group]:
    """So that no process is left with the longest work when the others are done."""
    return sorted(groups, key=lambda group: -len(group.items))


def _bases(original: Any, waiting: Sequence[Plan]) -> tuple[dict[str, Path], dict[str, Any]]:
    """Key -> folder of every base, and what they took together."""
    start = perf_counter()
    made = {p.base_key: make_base(original, p) for p in {p.base_key: p for p in waiting}.values()}
    cached = all(there for _, there in made.values())
    seconds = round(perf_counter() - start, 3)
    return {key: folder for key, (folder, _) in made.items()}, {
        "seconds": seconds,
        "cached": cached,
    }


def _kept(each: Plan) -> dict[str, Any] | None:
    """The row of a bundle that is there, whole and made from the same; None where there is none.

    Raises EV310 for anything else at its place.
    """
    out = each.item.options.out
    if not out.exists() and not out.is_symlink():
        check_target(out, force=False)
        return None
    why = "it is not whole"
    try:
        record = open_bundle(out).record()
        if record.get("fleet", {}).get("inputs") != each.item.inputs:
            why = "it was made from other inputs: model, options, pictures or versions"
        elif not check_bundle(out):
            return summary(each.item, record, "kept")
    except (EdgeError, KeyError, TypeError, AttributeError) as error:
        why = error.why if isinstance(error, EdgeError) else "its record is not one of a fleet"
    raise UsageFault(
        "EV310",
        f"output {out} is not the bundle that set {each.item.name!r} asks for",
        why,
        "choose another -o, or add --force to derive all of them anew",
    )


def _check_on(options: FleetOptions) -> None:
    if options.on != LOCAL and not (options.on.startswith(RAY) and len(options.on) > len(RAY)):
        raise UsageFault(
            "EV220",
            f"--on {options.on[:80]}",
            "it is neither this machine nor a Ray cluster",
            "--on local, or --on ray://HEAD:10001",
        )
    if options.on != LOCAL and options.jobs is not None:
        raise UsageFault(
            "EV220",
            f"--jobs {options.jobs} with --on {options.on[:80]}",
            "Ray gives every core of its cluster a task, so it would do nothing",
            "leave it out",
        )


def _check_out(out: Path) -> None:
    """It may be there. Raises EV310, EV311."""
    if not out.is_dir():
        check_target(out, force=False)
        return
    try:
        (out / LOCK).touch()
    except OSError as error:
        raise disk_fault(out, error) from error
