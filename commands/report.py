"""`edgevlm report`: gather what is known of bundles, measure if asked to, and write one page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.commands.output import Speaker
from edgevlm.commands.pareto import front
from edgevlm.commands.profile import profile_bundle
from edgevlm.commands.report_gather import Answered, gather
from edgevlm.commands.report_profiles import assign, read_profile
from edgevlm.commands.verify import verify_bundle
from edgevlm.compiler.atomic import atomic_file, check_parent
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.signals import signals_wait
from edgevlm.devices.report.alerts import alerts
from edgevlm.devices.report.page import render

__all__ = ["ReportOptions", "report_bundles"]

MOST = 50  # bundles on a page


@dataclass(frozen=True)
class ReportOptions:
    """As the command line has them."""

    out: Path | None = None
    profiles: Sequence[Path] = ()
    measure: bool = False
    force: bool = False


def report_bundles(
    paths: Sequence[Path], options: ReportOptions, speaker: Speaker
) -> dict[str, Any]:
    """Write the page; returns the JSON of `edgevlm report --json`.

    Raises EV220 (too many bundles, or one twice), EV310, EV311 (the page), EV412 (a file of
    --profile), EV3xx (bundle), and with `measure` what `profile` raises.
    """
    out = options.out or Path(f"{_stem(paths[0])}.html")
    _check_page(out, options.force)
    bundles = [open_bundle(path) for path in paths]
    _check_bundles(paths, [bundle.digest for bundle in bundles])
    given = assign([read_profile(file) for file in options.profiles], bundles)
    answered: dict[Path, Answered] = {}
    if options.measure:
        for path in paths:
            answered[path] = _measure(path, speaker)
    subjects = []
    with speaker.stages(f"report {out.name}") as progress:
        for path, bundle in zip(paths, bundles, strict=True):
            progress(f"read {bundle.folder.name}")  # every byte, for its checksums
            subjects.append(gather(bundle, given[bundle.digest], answered.get(path)))
        progress("write page")
        page = render(subjects, front)
        _check_page(out, options.force)  # it may have come while we measured
        with signals_wait():  # no draft is left behind
            atomic_file(out, page)
    return {
        "schema": 1,
        "report": str(out),
        "bytes": len(page),
        "bundles": [
            {
                "bundle": str(path),
                "digest": subject.digest,
                "profiles": len(subject.profiles),
                "evals": len(subject.evals),
                "warnings": alerts(subject),
            }
            for path, subject in zip(paths, subjects, strict=True)
        ],
    }


def _measure(path: Path, speaker: Speaker) -> Answered:
    """Profile with ops, kept as any profile is; then ask the probes again."""
    profile_bundle(path, ops=True, bar=speaker.bar)
    try:
        found = verify_bundle(path)["goldens"]
    except JobFault as fault:
        if fault.code not in ("EV330", "EV331"):
            raise
        return Answered(f"{fault.what}: {fault.why}", wrong=True)
    return Answered(
        f"{found['agree']} of {found['of']} probes answered as promised on this machine"
    )


def _stem(path: Path) -> str:
    """What a page about this bundle is called."""
    name = path.absolute().resolve().name
    return name.removesuffix(".edgevlm") or "report"


def _check_page(out: Path, force: bool) -> None:
    """Refuse before anything is measured."""
    what = None
    if out.name in ("", ".."):
        what = "has no name of its own"
    elif out.is_symlink() or (os.path.lexists(out) and not out.is_file()):
        what = "is no file"  # through a link we would write somewhere else
    elif out.exists() and not force:
        raise UsageFault(
            "EV310",
            f"output {out} exists",
            "nothing is overwritten unasked",
            "choose another -o, or add --force",
        )
    if what:
        raise UsageFault("EV310", f"output {out} {what}", "a page is a file", "choose another -o")
    check_parent(out)


def _check_bundles(paths: Sequence[Path], digests: Sequence[str]) -> None:
    twice = next((p for i, p in enumerate(paths) if digests[i] in digests[:i]), None)
    if twice is not None:
        raise UsageFault(
            "EV220",
            f"report with {twice} twice",
            "two of the bundles have the same digest",
            "name each bundle once",
        )
    if len(paths) > MOST:
        raise UsageFault(
            "EV220",
            f"report on {len(paths)} bundles",
            f"a page holds {MOST} at the most",
            "edgevlm sweep compares more, in a table",
        )
