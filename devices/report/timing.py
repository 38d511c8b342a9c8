"""One profile as it is shown: where and how, ms a stage, what the first token waits for, energy."""

from __future__ import annotations

import re
from typing import Any

from edgevlm.devices.report.heat import heat_lines
from edgevlm.devices.report.layers import layer_view
from edgevlm.devices.report.measured import Profile, is_measured
from edgevlm.devices.report.placement import placement_view
from edgevlm.devices.report.recorded import Turns
from edgevlm.devices.report.state import state_rows
from edgevlm.devices.report.subject import Subject
from edgevlm.devices.report.words import call, count, figure, label, of_how, of_moment, plural

__all__ = ["energy_command", "no_energy", "profile_view", "turns_view"]

FIRST_TOKEN = ("preprocess", "vision", "connector", "embed", "prefill")
NAMES = {"end_to_end": "end to end"}


def profile_view(subject: Subject, profile: Profile) -> dict[str, Any]:
    """For the template."""
    heat = profile.thermal and heat_lines(profile.thermal)
    return {
        "place": profile.place,
        "how": of_how(profile.how),
        "sort": label(profile.how),
        "facts": _facts(profile),
        "stages": _stages(profile),
        "first_token": _first_token(profile),
        "rates": [
            (name, figure(value), unit)
            for name, value, unit in (
                ("pictures", profile.fps, "/s"),
                ("first token", profile.ttft_ms, "ms"),
                ("tokens", profile.tokens_per_s, "/s"),
                ("answers", profile.answers_per_s, "/s"),
                ("memory at its peak", profile.peak_rss_mb, "MB"),
            )
            if value is not None
        ],
        "energy": _energy(subject, profile),
        "heat": heat,
        "heat_words": _heat_words(subject, profile),
        "state": profile.state and state_rows(profile.state),
        "layers": layer_view(profile),
        "placement": is_measured(profile.how) and placement_view(profile.layers, subject.expected),
        "notes": _notes(profile),
        "ops_command": call("profile", subject.name, "--ops"),
    }


def _facts(profile: Profile) -> list[str]:
    """How it was measured, one fact each."""
    host = profile.host
    facts = [of_moment(profile.at)]
    if profile.n is not None:
        warm = f" after {profile.warmup} that are not counted" if profile.warmup else ""
        facts.append(f"{plural(profile.n, 'request')}{warm}")
    memory = host.ram_gib and f"{host.ram_gib:g} GiB"
    facts += [memory, host.os, host.kernel]
    facts.append(host.governor and f"governor {host.governor}")
    facts.append(host.clock_mhz and f"{host.clock_mhz:,.0f} MHz behind the last request")
    if host.load_average:
        facts.append(f"load {host.load_average[0]:g} before the first request")
    if profile.device.reached != "local":
        cuts = plural(profile.device.cuts, "time")
        cut = f", the link was cut {cuts}" if profile.device.cuts else ""
        facts.append(f"reached over {profile.device.reached}{cut}")
    if profile.sustained and profile.sustained.ratio is not None:
        facts.append(f"its last third took {profile.sustained.ratio:.2f}× its first")
    return [fact for fact in facts if fact]


def _notes(profile: Profile) -> list[str]:
    """What a prediction rests on, and how far its formulas are off where they can be checked."""
    notes = list(profile.notes)
    if profile.at_least:
        notes.insert(0, "These times are the least: something unknown is left out of them.")
    if profile.confidence:
        notes.append(f"The least sure fact that it rests on has confidence {profile.confidence}.")
    checked = profile.this_machine.stages if profile.this_machine else {}
    ratios = [f"{n} {c.ratio:.2f}×" for n, c in checked.items() if c.ratio is not None]
    if ratios:
        told = ", ".join(ratios)
        notes.append(f"On the machine that predicted, measured was {told} of predicted.")
    return notes


def _stages(profile: Profile) -> list[dict[str, Any]]:
    top = max(s.p99_ms or s.p90_ms or s.p50_ms for s in profile.stages.values()) or 1.0
    digits = 3 if top < 10 else 2 if top < 1000 else 1

    def ms(value: float | None) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    def share(value: float | None) -> str | None:
        return None if value is None else f"{100 * value / top:.2f}%"

    return [
        {
            "name": NAMES.get(name, name),
            "whole": name == "end_to_end",
            "p50": ms(s.p50_ms), "p90": ms(s.p90_ms), "p99": ms(s.p99_ms), "n": count(s.n),
            "how": of_how(s.how), "sort": label(s.how),
            "bar": share(s.p50_ms), "to": share(s.p90_ms), "mark": share(s.p99_ms),
        }
        for name, s in profile.stages.items()
    ]  # fmt: skip


def _first_token(profile: Profile) -> dict[str, Any] | None:
    """Medians of stages do not add up to the median of their sum; shares are of their own sum."""
    parts = [(n, profile.stages[n].p50_ms) for n in FIRST_TOKEN if n in profile.stages]
    whole = sum(ms for _, ms in parts)
    if "prefill" not in profile.stages or not whole:
        return None
    return {
        "parts": [
            {"name": name, "ms": figure(ms), "grow": f"{ms / whole:.5f}",
             "share": f"{100 * ms / whole:.0f}"}
            for name, ms in parts
        ],
        "how": of_how(profile.how),
    }  # fmt: skip


def no_energy(profile: Profile | None) -> str:
    """Why there are no joules."""
    if profile is None:
        return "Not measured."
    if not is_measured(profile.how):
        return "Energy is not predicted."
    why = (profile.energy_note or "no meter was read").removeprefix("not measured: ")
    why = re.sub(r"`?edgevlm doctor`? says more", "", why).rstrip("; ,.`")
    return f"Not measured: {why}."


def energy_command(subject: Subject) -> str:
    """What brings them, from a device that has a meter."""
    return call("profile", subject.name, "--device", "ssh://USER@HOST")


def _energy(subject: Subject, profile: Profile) -> dict[str, Any]:
    joules, power = profile.energy_j_per_answer, profile.power
    if joules is None:
        return {"rows": [], "words": no_energy(profile), "command": energy_command(subject)}
    rows = [("an answer, idle power included", joules, "J")]
    if power:
        rows += [
            ("a picture, idle power included", power.joules_per_image, "J"),
            ("an answer, above idle", power.joules_above_idle_per_answer, "J"),
            ("in the mean", power.watts, "W"),
            ("at the most", power.peak_watts, "W"),
            ("idle before", power.idle_w_before, "W"),
            ("idle after", power.idle_w_after, "W"),
            ("pictures a second for each watt", power.fps_per_watt, ""),
        ]
    how = (power and power.how) or profile.how
    meter = f" by {power.meter}" if power and power.meter else ""
    known = of_how(how)
    return {
        "rows": [(name, figure(value), unit) for name, value, unit in rows if value is not None],
        "words": f"{known[:1].upper()}{known[1:]}{meter}. {profile.energy_note}".strip(),
        "command": "",
    }


def _heat_words(subject: Subject, profile: Profile) -> str:
    thermal = profile.thermal
    if thermal is None:
        return ""
    state = {True: "It throttled meanwhile", False: "It did not throttle"}
    said = state.get(thermal.throttled, "Whether it throttled cannot be told")
    return f"{said}: {thermal.why}." if thermal.why else f"{said}."


def turns_view(turns: Turns | None, before: str, after: str) -> dict[str, Any] | None:
    """Two models timed turn about when this one was compiled: ms a stage of both."""
    if turns is None or not is_measured(turns.how):
        return None
    top = max([s for row in turns.stages.values() for s in (row.before_ms, row.after_ms)] or [1])
    ratio = turns.ratio
    return {
        "before": before,
        "after": after,
        "n": turns.n,
        "how": of_how(turns.how),
        "slower": turns.slower,
        "ratio": ratio and f"{ratio.median:.2f}×",
        "interval": ratio and f"{ratio.low:.2f} to {ratio.high:.2f}",
        "of": "time to first token" if turns.first_token_ratio else "time of a request",
        "rows": [
            {"name": name, "before": f"{row.before_ms:.3f}", "after": f"{row.after_ms:.3f}",
             "before_bar": f"{100 * row.before_ms / (top or 1):.2f}%",
             "after_bar": f"{100 * row.after_ms / (top or 1):.2f}%"}
            for name, row in turns.stages.items()
        ],
    }  # fmt: skip
