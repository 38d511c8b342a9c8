"""`edgevlm compare A B`: what changed between two bundles, by how much, and how surely.

What was written down is compared always; speed, memory and answers where this machine can run both.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.commands.compare_accuracy import Asked, compare_accuracy
from edgevlm.commands.compare_changes import (
    goldens_changed,
    passes_changed,
    settings_changed,
    sizes,
)
from edgevlm.commands.compare_gates import drop_gate, speed_gates
from edgevlm.commands.compare_kept import kept_evals, kept_profiles
from edgevlm.commands.compare_memory import peak_of
from edgevlm.commands.compare_speed import (
    LEAST,
    Request,
    accepted,
    compare_speed,
    open_once,
    requests_of,
)
from edgevlm.commands.output import Bar, silent
from edgevlm.commands.profile import check_request
from edgevlm.compiler.bundle import Bundle, open_bundle
from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.devices.host import describe_host, tool_versions

__all__ = ["Compared", "compare_bundles"]


@dataclass(frozen=True)
class Compared:
    """How to compare; defaults as of the verb."""

    n: int = 100  # timed requests of each bundle
    warmup: int = 10
    image: Path | None = None
    prompt: str | None = None
    asked: Asked | None = None  # rows to ask both
    max_slower: float | None = None  # percent
    max_drop: float | None = None  # points


def compare_bundles(
    path_a: Path, path_b: Path, how: Compared | None = None, bar: Bar = silent
) -> dict[str, Any]:
    """The JSON of `edgevlm compare --json`; `ok` is false where a gate was not passed.

    Raises EV340 (one bundle twice, or of different kinds), EV220, EV410, EV411 (what to ask),
    EV13x (data set), EV3xx (bundle); EV302 where a bundle cannot run here and was to be asked.
    """
    how = how or Compared()
    a, b = open_bundle(path_a), open_bundle(path_b)
    _check(a, b, how)
    here = describe_host()
    same = a.digest == b.digest
    measured: dict[str, Any] = {"speed": None, "memory": None, "accuracy": None, "note": None}
    if same:
        measured["note"] = "the same bundle: nothing to measure"
    else:
        measured |= _measured(a, b, how, bar)
    gates = []
    if how.max_slower is not None and measured["speed"]:
        gates += speed_gates(measured["speed"], how.max_slower)
    if how.max_drop is not None and measured["accuracy"]:
        gates.append(drop_gate(measured["accuracy"], how.max_drop))
    runtimes = [bundle.manifest.target.toolchain for bundle in (a, b)]
    return {
        "schema": 1,
        "a": {"bundle": str(path_a), "digest": a.digest},
        "b": {"bundle": str(path_b), "digest": b.digest},
        "same": same,
        "ok": all(gate["ok"] for gate in gates),
        "settings": settings_changed(a, b),
        "passes": passes_changed(a, b),
        "sizes": sizes(a, b),
        "goldens": goldens_changed(a, b),
        **measured,
        "kept_evals": [] if same or how.asked else kept_evals(a, b),
        "kept_profiles": [] if same else kept_profiles(a, b, here),
        "gates": gates,
        "host": here.as_json(),
        "tools": tool_versions(["edgevlm", *dict.fromkeys([*runtimes[0], *runtimes[1]]), "numpy"]),
    }


def _check(a: Bundle, b: Bundle, how: Compared) -> None:
    """Raises EV340, EV220, EV410, EV411 before any work."""
    what = f"compare {a.folder.name} with {b.folder.name}"
    kinds = [bundle.manifest.contract.kind for bundle in (a, b)]
    if a.folder.resolve() == b.folder.resolve():
        raise UsageFault(
            "EV340",
            what,
            "both are one folder",
            f"edgevlm inspect {shlex.quote(str(a.folder))}; compare takes an old and a new bundle",
        )
    if kinds[0] != kinds[1]:
        raise UsageFault(
            "EV340",
            what,
            f"A is a {kinds[0]} and B a {kinds[1]}: no request can be asked of both",
            "edgevlm profile and edgevlm eval  measure each by itself",
        )
    if how.max_drop is not None and how.asked is None:
        raise UsageFault(
            "EV220",
            f"--max-drop {how.max_drop:g} without --dataset",
            "points are lost on rows that both are asked",
            "add --dataset NAME, or leave --max-drop out",
        )
    if how.max_slower is not None and how.n < LEAST:
        raise UsageFault(
            "EV410",
            f"compare --max-slower with n = {how.n}",
            "that is too few for an interval of 95 %, and a gate judges by that",
            f"-n {LEAST} or more",
        )
    check_request(a.folder, kinds[0] == "vlm", how.image, how.prompt)


def _measured(a: Bundle, b: Bundle, how: Compared, bar: Bar) -> dict[str, Any]:
    """What comes of running both; a note instead where one cannot run here.

    Raises what keeps a bundle from running where something was asked of both that needs it.
    """
    found: dict[str, Any] = {}
    timed = how.image or how.max_slower is not None
    try:
        found["speed"], first = _timed(a, b, how, bar)
        peaks = [peak_of(bundle, first.image, first.question) for bundle in (a, b)]
        found["memory"] = {"a_mb": peaks[0], "b_mb": peaks[1], "n": 1, "how": "measured-host"}
    except EdgeError as fault:
        if fault.code == "EV302" and not (timed or how.asked):
            found["note"] = f"not run here: {fault.what}: {fault.why}"
        elif fault.code == "EV411" and not timed:
            found["note"] = f"not timed: {fault.why} ({fault.fix})"
        else:
            raise
    if how.asked:
        with bar(f"compare: {how.asked.dataset} {how.asked.split}") as advance:
            found["accuracy"] = compare_accuracy(a, b, how.asked, advance)
    return found


def _timed(a: Bundle, b: Bundle, how: Compared, bar: Bar) -> tuple[dict[str, Any], Request]:
    """Speed of both, and a request that both answer; both are open in here alone."""
    sides = open_once(a), open_once(b)
    with bar("compare: ask both once") as advance:
        requests = accepted(requests_of(a, b, how.image, how.prompt), sides, advance)
    with bar("compare: time both") as advance:
        speed = compare_speed(sides, requests, n=how.n, warmup=how.warmup, advance=advance)
    return speed, requests[0]
