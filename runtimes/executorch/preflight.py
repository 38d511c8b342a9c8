"""What is seen of a program on this host: who takes each op, and what its kernels multiply.

    placement   of the lowered program: ops a delegate has, ops that stay outside
    kernels     of one run of every method with the event tracer on, where this host has the
                backend's kernels: products by what they multiply, as XNNPACK names them

A quantised graph that lost its integer kernels still runs and still answers, only slower. So each
part's products are held against those that its graph asks for (expects.py): fewer is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import Preflight, Table
from edgevlm.runtimes.executorch.backends import Backend
from edgevlm.runtimes.executorch.host_profile import profile_methods
from edgevlm.runtimes.executorch.kernels import kernel_counts
from edgevlm.runtimes.executorch.package import installed

__all__ = ["preflight"]

#: what is expected -> the classes of kernels.py that are it
CLASSES = {
    "int8-static": ("int8-static",),
    "int8-dynamic": ("int8-dynamic",),
    "int4": ("int4-block", "int4-channel"),
}
HEADINGS = ("part", "delegates", "ops delegated", "ops outside", "products", "integers asked")
OPS = 6  # kinds outside that a row names


def preflight(folder: Path, artifacts: Sequence[Artifact], backend: Backend) -> Preflight:
    """Raises EV309 naming the part whose integers became floats; EV307, EV360."""
    version = installed()["executorch"]
    label, note = f"executorch {version}, {backend.name} on this CPU", "every method ran on zeros"
    done = f"{label}: {len(artifacts)} methods run, their kernels as the graphs ask"
    counts: Mapping[str, Mapping[str, int]] = {}
    if backend.runs_here:
        counts = _counted(folder, artifacts)
    else:
        label = f"executorch {version}, {backend.name}"
        note = (
            f"placement alone: this host has no {backend.name}, nothing of it ran; ops outside of "
            "its delegates are the CPU's"
        )
        done = f"{label}: ops of {len(artifacts)} methods placed; {note}"
    parts = [_part(each, counts.get(each.role)) for each in artifacts]
    for part in parts:
        _refuse_floats(part, backend)
    table = Table(HEADINGS, [_row(part) for part in parts])
    return Preflight(done, None, label, note, table, (), {"parts": parts})


def _counted(folder: Path, artifacts: Sequence[Artifact]) -> dict[str, Mapping[str, int]]:
    methods = {str(each.settings.get("method", each.role)): each.role for each in artifacts}
    profile = profile_methods(folder / artifacts[0].file, list(methods), runs=1, warm_up=0)
    return {methods[made.name]: kernel_counts(made.rows) for made in profile.methods}


def _part(artifact: Artifact, counts: Mapping[str, int] | None) -> dict[str, Any]:
    """counts: None where nothing ran."""
    expects = [_verdict(what, n, counts) for what, n in artifact.settings["expects"].items()]
    placed = artifact.settings["placed"]
    return {
        "role": artifact.role,
        "delegates": placed["delegates"],
        "share": placed["share"],
        "left": placed["left"],
        "kernels": None if counts is None else dict(counts),
        "expects": expects,
    }


def _verdict(what: str, wanted: int, counts: Mapping[str, int] | None) -> dict[str, Any]:
    found = None if counts is None else sum(counts.get(kind, 0) for kind in CLASSES[what])
    ok = None if found is None else found >= wanted
    return {"what": what, "wanted": wanted, "found": found, "ok": ok}


def _refuse_floats(part: Mapping[str, Any], backend: Backend) -> None:
    short = [row for row in part["expects"] if row["ok"] is False]
    if not short:
        return
    asked = ", ".join(f"{row['wanted']} {row['what']} asked, {row['found']} found" for row in short)
    raise JobFault(
        "EV309",
        f"{backend.name} has no integer kernels for all of part {part['role']}",
        f"products: {asked}; it ran {_counts(part['kernels'])}",
        "another scheme: --quant 8da8w; --preflight none leaves this check out",
    )


def _row(part: Mapping[str, Any]) -> list[str]:
    asked = {row["what"]: row["wanted"] for row in part["expects"] if row["wanted"]}
    left = [name if n == 1 else f"{n} {name}" for name, n in part["left"].items()]
    more = [f"{len(left) - OPS} more kinds"] if len(left) > OPS else []
    return [
        part["role"],
        str(part["delegates"]),
        f"{100 * part['share']:.1f} %",
        ", ".join([*left[:OPS], *more]) or "none",
        "not run here" if part["kernels"] is None else _counts(part["kernels"], "none"),
        _counts(asked, "none"),
    ]


def _counts(found: Mapping[str, int], nothing: str = "nothing") -> str:
    """24 int8-static, 3 fp32."""
    return ", ".join(f"{n} {name}" for name, n in found.items()) or nothing
