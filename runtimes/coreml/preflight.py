"""What is predicted of a package before any device has it: ops that likely leave the Neural Engine.

    part      ops   likely on it   likely off it     products off it   slower on it
    prefill   412   397            12 cast, 3 topk   0.0 %             2

All of it is the lint's (lint.py): rules that others published, by kind and form of an op. Nothing
is run, and no Mac is asked; what leaves goes to the GPU or the CPU, and no rule says to which. So
every row says `predicted`, and the manifest has it among what is not verified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import Preflight, Table
from edgevlm.runtimes.coreml.lint import Finding, Lint, lint

__all__ = ["ASK_A_MAC", "preflight"]

#: run on a Mac with edgevlm and coremltools, in the bundle: where Core ML itself would run each op
ASK_A_MAC = "python3 -m edgevlm.runtimes.coreml.scripts.compute_plan {package} CPU_AND_NE"
HEADINGS = (
    "part",
    "how",
    "ops",
    "likely on the Neural Engine",
    "likely off it (GPU or CPU)",
    "products off it",
    "slower on it",
)
OPS = 6  # kinds that a row names
#: of a rule: none of it was measured by us
SAID = {
    "documented": "documented",
    "measured": "others measured it",
    "reported": "reported",
}


def preflight(folder: Path, artifacts: Sequence[Artifact], chip: int | None = None) -> Preflight:
    """chip: the generation of an A-chip; None for rules of all. Raises EV302, EV304."""
    package = Path(artifacts[0].file).parent
    told = lint(folder / package, chip)
    leaving = told.leaving()
    parts = [_part(told, each, leaving) for each in artifacts]
    ops, off = (sum(part[key] for part in parts) for key in ("ops", "leaving"))
    ask = ASK_A_MAC.format(package=package.as_posix())
    return Preflight(
        f"predicted, and asked of no device: {ops - off} of {ops} ops likely run on the Neural "
        f"Engine; on a Mac: {ask}",
        label=f"rules of the Neural Engine ({f'A{chip}' if chip else 'any chip'}; predicted)",
        note=f"nothing was run; a Mac tells where ops really go: {ask}",
        table=Table(HEADINGS, [_row(part) for part in parts]),
        odd=_reasons(leaving),
        more={"how": told.label, "chip": chip, "parts": parts},
        predicted=True,
    )


def _part(
    told: Lint, artifact: Artifact, leaving: Mapping[tuple[str, str], Finding]
) -> dict[str, Any]:
    name = str(artifact.settings.get("function", artifact.role))
    ops = {op for function, _, op in told.all_ops if function == name}
    left = {op: each for (function, op), each in leaving.items() if function == name and op in ops}
    slow = {f.op for f in told.findings if f.function == name and f.effect == "slows"} - set(left)
    return {
        "role": artifact.role,
        "expects": [],
        "how": told.label,
        "ops": len(ops),
        "leaving": len(left),
        "left": dict(Counter(each.type for each in left.values()).most_common()),
        "macs_share_leaving": round(told.share_leaving(name), 6),
        "slower": len(slow & ops),
    }


def _row(part: Mapping[str, Any]) -> list[str]:
    left = [f"{n} {kind}" for kind, n in part["left"].items()]
    more = [f"and {len(left) - OPS} more"] if len(left) > OPS else []
    return [
        part["role"],
        part["how"],
        str(part["ops"]),
        str(part["ops"] - part["leaving"]),
        ", ".join([*left[:OPS], *more]) or "none",
        f"{100 * part['macs_share_leaving']:.1f} %",
        str(part["slower"]),
    ]


def _reasons(leaving: Mapping[tuple[str, str], Finding]) -> list[str]:
    """A sentence for each reason: which kinds of ops likely leave for it, in which parts."""
    grouped: dict[str, list[Finding]] = {}
    for finding in leaving.values():
        grouped.setdefault(finding.why, []).append(finding)
    order = sorted(grouped.items(), key=lambda row: (-sum(f.macs_share for f in row[1]), row[0]))
    told = []
    for why, found in order:
        kinds = ", ".join(sorted({f.type for f in found}))
        where = ", ".join(
            f"{n} in {name}" for name, n in Counter(f.function for f in found).items()
        )
        source = f"{SAID[found[0].known]}: {found[0].source}"
        told.append(f"predicted: {kinds}: {where}, likely off it: {why} ({source})")
    return told
