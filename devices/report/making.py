"""What made a bundle: versions, the machine that compiled; what derivation and rounding came to."""

from __future__ import annotations

from typing import Any

from edgevlm.devices.report.recorded import Derived
from edgevlm.devices.report.subject import Subject
from edgevlm.devices.report.words import count, figure, of_how, percent, plural

__all__ = ["derived_view", "drop_words", "versions"]

NAMES = {"base": "base", "base_head_mask": "base + head mask", "derived": "derived"}


def versions(subject: Subject) -> list[tuple[str, str]]:
    """Name -> version and what it did."""
    did: dict[tuple[str, str], list[str]] = {("edgevlm", subject.edgevlm): ["compiled it"]}
    for name, version in subject.toolchain.items():
        did.setdefault((name, version), []).append("made the artifacts")
    for profile in subject.measured[:1]:
        for name, version in profile.tools.items():
            if version:
                did.setdefault((name, version), []).append("there when it was timed")
    rows = [(name, f"{version} ({', '.join(what)})") for (name, version), what in did.items()]
    rows.append(("licence of the source", subject.licence or "not said"))
    if (memory := subject.record.memory) and memory.text:
        rows.append(("memory of the target", f"{memory.text} ({of_how(memory.how)})"))
    if made := _made_on(subject):
        rows.append(("compiled on", made))
    return rows


def _made_on(subject: Subject) -> str:
    record, host = subject.record, subject.record.host
    cores = plural(host.cores, "core") if host.cores else None
    python = host.python and f"Python {host.python}"
    told = [host.cpu_model, cores, host.os, python]
    if record.seconds is not None:
        told.append(f"in {figure(record.seconds)} s")
    if record.peak_rss_mb is not None:
        told.append(f"{figure(record.peak_rss_mb)} MB of memory at its peak")
    return ", ".join(word for word in told if word)


def derived_view(subject: Subject) -> dict[str, Any] | None:
    """The model beside what it was derived from; None where nothing was held out to tell."""
    derived = subject.record.derived
    if derived is None or not derived.accuracy or not derived.held_out:
        return None
    rows, what = plural(derived.held_out, "row"), f"the domain {derived.domain}"
    if derived.kind == "classes":
        what = f"{len(derived.classes)} of {derived.of} classes"
    return {
        "title": f"Derived for {what}",
        "how": of_how(derived.how),
        "words": f"On {rows} that it was neither fitted to nor chosen by.",
        "rows": [
            {"name": NAMES[key], "whole": key == "derived", "right": percent(share),
             "bar": f"{100 * share:.1f}%", "mmac": _mmac(derived, key)}
            for key, share in derived.accuracy.items()
            if key in NAMES
        ],
    }  # fmt: skip


def _mmac(derived: Derived, key: str) -> str:
    """Both answers of the base take the same work."""
    macs = derived.macs.get("derived" if key == "derived" else "base")
    return figure(macs and macs / 1e6)


def drop_words(subject: Subject) -> str:
    """What quantisation lost, where that was measured."""
    quant = subject.record.quant
    drop = quant and quant.drop
    if not drop or drop.drop_points is None:
        return ""
    both = ""
    if drop.before is not None and drop.after is not None:
        both = f", from {percent(drop.before)} to {percent(drop.after)} %"
    return (
        f"Quantisation took {drop.drop_points:.2f} points of {drop.of}{both} "
        f"(n = {count(drop.n)}, {of_how(drop.how)})."
    )
