"""A device over ssh against the same machine at its own keyboard."""

from __future__ import annotations

from page import grid, load, provenance

__all__ = ["section"]


def section() -> str:
    result = load("link")
    rows = [
        [
            row["model"] if not place else "",
            stage,
            f"{seen['here_ms']:.3f}",
            *(
                f"{seen[which]['median']:.3f} [{seen[which]['low']:.3f}-{seen[which]['high']:.3f}]"
                for which in ("there", "again")
            ),
        ]
        for row in result["rows"]
        for place, (stage, seen) in enumerate(row["stages"].items())
    ]
    drift = max(row["clock_drift_s"] for row in result["rows"])
    error = max(row["clock_error_s"] for row in result["rows"])
    return "\n\n".join(
        [
            "## A device over ssh",
            "This machine profiled through an sshd on loopback and as itself, in turns: p50 over "
            f"ssh by p50 as itself, the median of {result['rounds']} rounds of {result['n']} "
            "requests with its 95 % interval; and as itself once more, which is the noise. Its "
            f"clock went off by {1e3 * drift:.1f} ms at most over a run, against itself; at either "
            f"end it was known to {1e3 * error:.1f} ms.",
            grid(["model", "stage", "ms", "over ssh", "once more"], rows),
            provenance(result),
        ]
    )
