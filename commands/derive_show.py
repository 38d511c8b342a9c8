"""What a person reads of a fleet: a line a bundle as it comes, one table, and what failed."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker

__all__ = ["derive_table", "row_line"]


def row_line(row: dict[str, Any], count: int, of: int) -> str:
    """One bundle in one line."""
    head = f"[{count}/{of}] {row['name']}: "
    if row["fault"] is not None:
        return head + f"failed, {row['fault']['code']}: {row['fault']['what']}"
    right = row["accuracy"]
    return head + (
        f"{row['seconds']:.1f} s, held out: base + head mask {100 * right['base_head_mask']:.1f} %,"
        f" derived {100 * right['derived']:.1f} %; {row['macs']:.3f} of the multiplications, "
        f"peak {row['peak_rss_mb']:.0f} MB"
    )


def derive_table(speaker: Speaker, report: dict[str, Any]) -> None:
    """Those that are there, then the three lines of each that is not."""
    rows = [
        [
            row["name"],
            str(len(row["classes"])),
            row["target"],
            f"{100 * row['accuracy']['base_head_mask']:.1f}",
            f"{100 * row['accuracy']['derived']:.1f}",
            str(row["held_out"]),
            f"{row['macs']:.3f}",
            f"{row['bytes'] / 1e6:.2f}",
            "before" if row["status"] == "kept" else f"{row['seconds']:.1f}",
        ]
        for row in report["sets"]
        if row["fault"] is None
    ]
    if rows:
        headings = ["set", "classes", "target", "mask %", "derived %", "held out", "of MAC", "MB"]
        speaker.table(f"{report['model']}: right of pictures held out", [*headings, "s"], rows)
    stages = report["stages"]
    rate = report["throughput"]
    speaker.say(
        f"{report['done']} made, {report['kept']} kept, {report['failed']} failed in "
        f"{report['seconds']:.1f} s: base {stages['base']['seconds']:.1f} s"
        f"{' (from the cache)' if stages['base']['cached'] else ''}, pictures "
        f"{stages['pictures']['seconds']:.1f} s, class sets "
        f"{stages['class_set']['seconds']:.1f} s, budgets {stages['budget']['seconds']:.1f} s; "
        f"{rate['bundles_per_minute']:.1f} bundles a minute"
    )
    for row in report["sets"]:
        if (fault := row["fault"]) is not None:
            speaker.say(f"error {fault['code']}: set {row['name']!r}: {fault['what']}")
            speaker.say(f"  why:  {fault['why']}")
            speaker.say(f"  next: {fault['next']}")
    if report["failed"]:
        speaker.say("the same command again derives what is missing")
