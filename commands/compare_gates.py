"""Gates of `compare`: is B proven to be no slower, or no less often right, than a margin allows?

A gate is passed where the whole 95 % interval lies within the margin, so that one which measured
too little fails: what was not shown is not promised. The word is non-inferiority. Since only one
end of the interval matters, a gate lets a bundle through wrongly at most once in forty times.
"""

from __future__ import annotations

from typing import Any

from edgevlm.compiler.errors import EdgeError, JobFault

__all__ = ["drop_gate", "gated_stages", "speed_gates"]


def gated_stages(stages: dict[str, Any]) -> list[str]:
    """What is promised: the first token and the whole answer, or what there is of them."""
    return [stage for stage in ("first_token", "end_to_end") if stage in stages]


def speed_gates(speed: dict[str, Any], percent: float) -> list[dict[str, Any]]:
    """One for each figure that is promised; B may take so many percent longer."""
    return [
        _slower(stage, speed["stages"][stage], percent) for stage in gated_stages(speed["stages"])
    ]


def drop_gate(accuracy: dict[str, Any], points: float) -> dict[str, Any]:
    """B may lose so many points."""
    lost, most, least = (0.0 - accuracy[key] for key in ("points", "low", "high"))
    margin = f"{points:g} point{'s' * (points != 1)}"
    fault = None
    if most > points:
        surely = least > points
        fault = JobFault(
            "EV342",
            f"B {'loses more than' if surely else 'is not shown to lose at most'} "
            f"{margin} on {accuracy['dataset']}",
            f"it loses {lost:.2f} points (95 %: {least:.2f} to {most:.2f}, n = {accuracy['n']})",
            "a gentler recipe, or a larger --max-drop"
            if surely
            else "more rows, with a larger --limit or none; or a larger --max-drop",
        )
    return _gate("accuracy", points, "points", most, fault)


def _slower(stage: str, found: dict[str, Any], percent: float) -> dict[str, Any]:
    most, allowed = found["high"], 1 + percent / 100
    fault = None
    if most is None or most > allowed:
        surely = most is not None and found["low"] > allowed
        told = (
            "there were too few turns to tell"
            if most is None
            else f"it takes {found['ratio']:.3f}x the time (95 %: {found['low']:.3f} to "
            f"{most:.3f}, n = {found['n']} pairs)"
        )
        fault = JobFault(
            "EV341",
            f"B is {'more than' if surely else 'not shown to be at most'} {percent:g} % slower: "
            f"{stage.replace('_', ' ')}",
            told,
            "a gentler recipe, or a larger --max-slower"
            if surely
            else "more requests with -n, or a quieter machine; or a larger --max-slower",
        )
    return _gate(stage, percent, "percent", None if most is None else 100 * (most - 1), fault)


def _gate(
    of: str, margin: float, unit: str, worst: float | None, fault: EdgeError | None
) -> dict[str, Any]:
    """worst: the far end of the interval, in the margin's unit."""
    told = fault.as_json() if fault else None
    return {"of": of, "margin": margin, "unit": unit, "worst": worst, "ok": not fault,
            "fault": told}  # fmt: skip
