"""The report of a fleet: a row a bundle, from its record or its fault, and what all took."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from edgevlm.commands.compile_options import CompileOptions
from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.recipe import Recipe
from edgevlm.devices.host import peak_rss_mb

__all__ = ["Item", "failed", "fleet_report", "summary"]


@dataclass(frozen=True)
class Item:
    """One bundle to make."""

    name: str
    options: CompileOptions
    recipe: Recipe
    inputs: str  # digest of everything it is made from


def summary(item: Item, record: dict[str, Any], status: str) -> dict[str, Any]:
    """A row, of the record of a bundle."""
    derived = record["derived"]
    return {
        **_head(item, status),
        "digest": record["digest"],
        "bytes": record["bytes"],
        "accuracy": derived["accuracy"],
        "held_out": derived["held_out"],
        "macs": round(derived["macs"]["derived"] / derived["macs"]["base"], 4),
        "stages": record["stages"],
        "seconds": record["seconds"],
        "peak_rss_mb": record["peak_rss_mb"],
    }


def failed(item: Item, fault: EdgeError, seconds: float = 0.0) -> dict[str, Any]:
    return {**_head(item, "failed"), "fault": fault.as_json(), "seconds": round(seconds, 2)}


def _head(item: Item, status: str) -> dict[str, Any]:
    derived = item.options.flags.derived
    return {
        "name": item.name,
        "bundle": str(item.options.out),
        "status": status,
        "target": item.options.target,
        "classes": list(derived.classes),
        "alpha": derived.alpha,
        "fault": None,
    }


def fleet_report(
    head: dict[str, Any],
    jobs: int | None,
    rows: Sequence[dict[str, Any]],
    base: dict[str, Any],
    since: tuple[float, float],
) -> dict[str, Any]:
    """The JSON of `edgevlm derive --json`.

    head: what was asked for. jobs: processes of this machine; None on a cluster. since:
    `perf_counter` when the call began, and when the first bundle did.
    """
    start, begun = since
    now = perf_counter()
    count = Counter(row["status"] for row in rows)
    done = [row for row in rows if row["status"] == "done"]
    rate = 60 * len(done) / max(now - begun, 1e-9)
    whole = [row["bundle"] for row in rows if row["fault"] is None]
    return {
        "schema": 1,
        **head,
        "ok": not count["failed"],
        **{status: count[status] for status in ("done", "kept", "failed")},
        "jobs": jobs,
        "seconds": round(now - start, 2),
        "stages": {
            "base": base,
            "pictures": _total(done, "pictures", "seconds", "made", "reused"),
            "class_set": _total(done, "class_set", "seconds", "made", "reused"),
            "budget": _total(done, "budget", "seconds"),
        },
        "throughput": {
            "bundles_per_minute": round(rate, 2),
            "bundles_per_minute_per_job": round(rate / jobs, 2) if jobs else None,
            "how": "measured-host",
        },
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "worker_peak_rss_mb": max((row["peak_rss_mb"] for row in done), default=None),
        "sets": list(rows),
        "next": [f"edgevlm verify {shlex.quote(bundle)}" for bundle in whole[:1]],
    }


def _total(done: Sequence[dict[str, Any]], stage: str, *what: str) -> dict[str, float]:
    """Of what every bundle says of a stage."""
    return {key: round(sum(row["stages"][stage][key] for row in done), 3) for key in what}
