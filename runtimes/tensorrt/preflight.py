"""What a compiler of NVIDIA's says on this host: every part parsed and built by tensorrt-rtx.

It needs no GPU, and builds for none of a Jetson's chips: the nearest it knows stands in, and is
named with every figure. The engine it makes is thrown away. It runs in a process of its own, the
program that builds on the device (on_device/build_main.py): a crash of native code, or a build
without end, is then a line in the report.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.workshop.child import run_child
from edgevlm.runtimes.base import Preflight, Table
from edgevlm.runtimes.tensorrt.aim import Aim

__all__ = ["LIBRARY", "installed", "preflight", "refuse_failed"]

PACKAGE, LIBRARY = "tensorrt-rtx-cu12-bindings", "tensorrt_rtx_bindings"
INSTALL = "pip install 'edgevlm[tensorrt]'"
MAIN = "edgevlm.runtimes.tensorrt.on_device.build_main"
NOTE = "engine: not built; on the device it may come out otherwise"
NARROW = ("int8", "fp8", "int4")
HEADINGS = ("part", "nodes -> layers", "products", *NARROW, "attention", "engine MB", "build s")
#: seconds for a part, and more for its weights
PART_S, SECONDS_A_GB = 120.0, 120.0


def preflight(folder: Path, artifacts: Sequence[Artifact], aim: Aim) -> Preflight:
    """Raises EV309 for a part that is refused, in the words of the parser or builder."""
    if aim.chip is None or aim.chip.proxy is None:
        chip = f"sm_{aim.chip.sm}" if aim.chip else "an unnamed chip"
        return Preflight(None, f"tensorrt-rtx builds for no chip near {chip}")
    found = installed()
    if found is None:
        return Preflight(None, f"tensorrt-rtx is not installed: {INSTALL}")
    report = _built(folder, artifacts, aim.chip.proxy)
    refuse_failed(report)
    label = f"tensorrt-rtx {found}, proxy {aim.chip.proxy.lower()}"
    odd = [
        f"{part['role']}: {row['what']} {row['found']}, expected {row['wanted']}"
        for part in report["parts"]
        for row in part["expects"]
        if row["ok"] is False
    ]
    done = f"{label}: {len(report['parts'])} parts parsed and built"
    table = Table(HEADINGS, [_row(part) for part in report["parts"]])
    return Preflight(done, None, label, NOTE, table, odd, report)


def _row(part: Mapping[str, Any]) -> list[str]:
    """Products are those of the graph, by what they multiply; attention is kernels, of those that
    were expected."""
    counts = part["summary"]
    wanted = next((row["wanted"] for row in part["expects"] if row["what"] == "mha"), 0)
    return [
        part["role"],
        f"{part['network_layers']:,} -> {counts['layers']:,}",
        str(counts["gemm"]),
        *(str(counts[f"{kind}_gemm"]) for kind in NARROW),
        f"{counts['mha']} of {wanted}",
        f"{part['engine_bytes'] / 1e6:.2f}",
        f"{part['parse_s'] + part['build_s']:.2f}",
    ]


def installed() -> str | None:
    """Its version; None where it is not, as on a machine it is not made for."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def refuse_failed(report: Mapping[str, Any]) -> None:
    """Raises EV309 naming part, node and what was said."""
    for part in report["parts"]:
        if part["ok"]:
            continue
        said = part["refusals"][0] if part["refusals"] else {"stage": "build", "text": "no word"}
        where = f", node {said['node']}" if said.get("node") else ""
        raise JobFault(
            "EV309",
            f"tensorrt-rtx refuses part {part['role']} ({said['stage']}{where})",
            str(said["text"])[:300],
            "please report this with the recipe; --preflight none leaves this check out",
        )


def _built(folder: Path, artifacts: Sequence[Artifact], proxy: str) -> dict[str, Any]:
    size = sum(p.stat().st_size for p in (folder / "tensorrt").iterdir()) / 1e9
    limit = PART_S * len(artifacts) + SECONDS_A_GB * size
    # -P: a folder called edgevlm where the caller stands is not this package
    call = [sys.executable, "-P", "-m", MAIN, "--bundle", str(folder), "--library", LIBRARY]
    call += ["--compute-capability", proxy, "--json"]
    with tempfile.TemporaryDirectory(prefix="edgevlm-preflight-") as scratch:
        out, log = Path(scratch) / "out", Path(scratch) / "log"
        ended = run_child(call, within_s=limit, log=log, out=out)
        told = out.read_bytes()
    try:
        report = json.loads(told) if ended.status is not None else {}
    except ValueError:
        report = {}
    if "parts" not in report:
        raise JobFault(
            "EV309",
            "tensorrt-rtx did not end its work",
            (ended.said[-1] if ended.said and ended.status is not None else ended.how)[-300:],
            "--preflight none leaves this check out; edgevlm doctor shows versions",
        )
    return report
