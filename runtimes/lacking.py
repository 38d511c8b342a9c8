"""What is said where a runtime's package is not there, or of another version."""

from __future__ import annotations

from edgevlm.compiler.errors import JobFault

__all__ = ["lacking"]


def lacking(runtime: str, wanted: str, why: str) -> JobFault:
    """wanted: as pip takes it."""
    return JobFault(
        "EV302",
        f"runtime {runtime} lacks the package {wanted}",
        why,
        f"pip install 'edgevlm[{runtime}]', or --target cpu, which needs nothing more",
    )
