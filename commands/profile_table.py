"""What a person reads of a profile: stages, rates, energy, and what the figures depend on."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker
from edgevlm.commands.tables import figure

__all__ = ["profile_table"]


def profile_table(speaker: Speaker, report: dict[str, Any]) -> None:
    rows = [
        [name, f"{s['p50_ms']:.3f}", f"{s['p90_ms']:.3f}", f"{s['p99_ms']:.3f}", s["n"], s["how"]]
        for name, s in report["stages"].items()
    ]
    speaker.table(
        f"{report['bundle']} ({report['bundle_mb']:.2f} MB)",
        ["stage", "p50 ms", "p90 ms", "p99 ms", "n", "how"],
        rows,
    )
    energy = report["energy_j_per_answer"]
    figures = [f"{figure(report['fps'])} images/s"]
    if "prefill" in report["stages"]:
        figures += [
            f"first token after {figure(report['ttft_ms'], '.2f')} ms",
            f"{figure(report['tokens_per_s'])} tokens/s",
        ]
        if report["answers_per_s"] is not None:
            figures.append(f"{figure(report['answers_per_s'])} answers/s")
    if report["peak_rss_mb"] is not None:
        figures.append(f"peak {report['peak_rss_mb']:.0f} MB")
    speaker.say(", ".join(figures))
    speaker.say(
        f"energy: {energy:.4f} J an answer, {_watts(report['power'])}"
        if energy is not None
        else f"energy: null ({report['energy_note']})"
    )
    for line in _conditions(report):
        speaker.say(line)
    if "engines" in report:
        speaker.say(_engines(report["engines"]))
    for line in _runner(report):
        speaker.say(line)
    if "ops" in report:
        speaker.table(
            "time by op",
            ["part", "op", "nodes", "ms a run", "share %"],
            [
                [o["role"], o["op"], o["nodes"], f"{o['ms']:.4f}", f"{100 * o['share']:.0f}"]
                for o in report["ops"]
            ],
        )


def _runner(report: dict[str, Any]) -> list[str]:
    """Of a device without Python: what was compared, and what the figures rest on."""
    told = report.get("runner")
    if told is None:
        return []
    rows, loads = told["outputs"], sum(told["loads_ms"].values())
    worst = min((row["db"] for row in rows if row["db"] is not None), default=None)
    like = f"{len(rows)} outputs as on the host" + (
        "" if worst is None else f", {worst:.1f} dB at worst"
    )
    lines = [f"runner: {told['program']}; {like}; all parts loaded in {loads:.1f} ms"]
    by_reason: dict[str, list[str]] = {}
    for role, why in told["not_verified"].items():
        by_reason.setdefault(why, []).append(role)
    lines += [f"not verified: {', '.join(roles)}: {why}" for why, roles in by_reason.items()]
    return lines + [f"note: {note}" for note in report["notes"]]


def _conditions(report: dict[str, Any]) -> list[str]:
    """Clocks, heat and pace: what a figure depends on, as far as the machine tells."""
    lines, heat, pace = [], report["thermal"], report["sustained"]
    before, after = report["state"]["before"], report["state"]["after"]
    if mode := before["power_mode"]:
        now = after["power_mode"]
        lines.append(f"power mode: {mode}" + (f", at the end {now}" if now != mode else ""))
    if heat["peak_celsius"] is not None:
        lines.append(f"heat: {heat['first_celsius']:.0f} to {heat['peak_celsius']:.0f} C")
    if heat["throttled"]:
        lines.append(f"throttled: {heat['why']}; figures of a cooler machine would be better")
    if pace and pace["slower"]:
        lines.append(
            f"pace: the last third took {pace['ratio']:.2f} times as long as the first "
            f"({pace['first_ms']:.2f} to {pace['last_ms']:.2f} ms)"
        )
    return lines


def _engines(told: dict[str, Any]) -> str:
    built = sum(bool(part["why"]) for part in told["parts"])
    worst = min((row["db"] for row in told["goldens"] if row["db"] is not None), default=None)
    like = f"{len(told['goldens'])} outputs as on the host"
    like += "" if worst is None else f", {worst:.1f} dB at worst"
    return (
        f"engines: {told['library']} {told['version']}, {told['cc']}; {built} of "
        f"{len(told['parts'])} built now, {like}"
    )


def _watts(power: dict[str, Any]) -> str:
    """Of a reading that was not rejected."""
    said = [f"{power['watts']:.2f} W in the mean"]
    if power["peak_watts"] is not None:
        said.append(f"{power['peak_watts']:.2f} W at most")
    if power["joules_per_image"] is not None:
        said.append(f"{power['joules_per_image']:.4f} J an image")
    if power["fps_per_watt"] is not None:
        said.append(f"{power['fps_per_watt']:.2f} images/s a watt")
    return ", ".join(said) + f" ({power['meter']})"
