"""What a reader of ten seconds takes away: a sentence or two, and big figures."""

from __future__ import annotations

from typing import Any

from edgevlm.devices.report.evaluated import Eval
from edgevlm.devices.report.measured import Profile, is_measured
from edgevlm.devices.report.subject import Subject
from edgevlm.devices.report.timing import no_energy
from edgevlm.devices.report.words import call, figure, label, of_how, percent, plural

__all__ = ["cards", "sentences"]

THROUGH = {"ort": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT",
           "coreml": "Core ML", "coreai": "Core AI", "executorch": "ExecuTorch",
           "ethos": "Arm's Vela"}  # fmt: skip


def sentences(subject: Subject) -> list[str]:
    """In plain words; every figure with how it is known."""
    device = subject.device.replace("The CPU of this machine", "the CPU of the host")
    through = THROUGH.get(subject.runtime, subject.runtime)
    first = f"{subject.source} compiled for {device}, run by {through}"
    if what := _changes(subject):
        first += f": {', '.join(what)}"
    said = [f"{first}. {subject.megabytes:.2f} MB on disk."]
    said.append(" ".join([_speed(subject), _right(subject)]))
    return said


def _changes(subject: Subject) -> list[str]:
    tokens, quant, derived = subject.tokens, subject.record.quant, subject.record.derived
    found = []
    if tokens["kept"] < tokens["of"]:
        found.append(f"{tokens['kept']} of {tokens['of']} image tokens kept")
    if quant and quant.scheme:
        bits = f" ({quant.bits:g} bits a weight)" if quant.bits else ""
        found.append(f"quantised by {quant.scheme}{bits}")
    if derived and derived.kind == "classes":
        found.append(f"for {len(derived.classes)} of {derived.of} classes")
    elif derived and derived.kind == "domain":
        found.append(f"for the domain {derived.domain}")
    return found


def _speed(subject: Subject) -> str:
    profile = subject.profile
    if profile is None or profile.answer_ms is None:
        return "How fast it is has not been measured."
    what = "The first token comes" if subject.kind == "vlm" else "A picture is done"
    n = f", n = {profile.n}" if profile.n else ""
    least = "at least " if profile.at_least else ""
    median = " in the median" if is_measured(profile.how) else ""
    return (
        f"{what} after {least}{figure(profile.answer_ms)} ms{median} on {profile.place} "
        f"({of_how(profile.how)}{n})."
    )


def _right(subject: Subject) -> str:
    answers = subject.record.answers
    probes = ""
    if answers and answers.probes:
        probes = (
            f" {answers.agree_with_source} of {answers.probes} probe answers are those of the "
            "source model."
        )
    if not subject.evals:
        return f"How often it is right has not been measured.{probes}"
    best = subject.evals[0]
    score = best.overall
    asked = "questions" if subject.kind == "vlm" else "pictures"
    return (
        f"It is right on {percent(score.accuracy)} % of {score.n:,} {best.asked} {asked} "
        f"({of_how(best.how)}).{probes}"
    )


def cards(subject: Subject) -> list[dict[str, Any]]:
    """Big figures; what is not known says why, and which command brings it."""
    profile = subject.profile
    return [
        _time_card(subject, profile),
        _rate_card(subject, profile),
        {
            "name": "size on disk", "value": f"{subject.megabytes:.2f}", "unit": "MB",
            "note": _tokens(subject), "how": "counted", "sort": "sure",
        },
        _right_card(subject, subject.evals[0] if subject.evals else None),
        _energy_card(subject, profile),
    ]  # fmt: skip


def _time_card(subject: Subject, profile: Profile | None) -> dict[str, Any]:
    name = "first token after" if subject.kind == "vlm" else "a picture takes"
    if profile is None or profile.answer_ms is None:
        return _missing(name, f"Not measured. {call('profile', subject.name)}")
    payoff = subject.record.payoff
    note = f"median of {profile.n}" if profile.n else "median"
    if not is_measured(profile.how):
        note = f"{'at least, ' if profile.at_least else ''}on {profile.place}"
    if payoff and payoff.ratio and profile.how == payoff.how:
        note += f"; {payoff.ratio.median:.2f}× the time without pruning"
    return _card(name, figure(profile.answer_ms), "ms", note, profile.how)


def _rate_card(subject: Subject, profile: Profile | None) -> dict[str, Any]:
    if profile is None or profile.fps is None:
        return _missing("pictures a second", f"Not measured. {call('profile', subject.name)}")
    whole = subject.kind == "vlm" and profile.answers_per_s
    note = f"{figure(profile.answers_per_s)} whole answers a second" if whole else "one at a time"
    return _card("pictures a second", figure(profile.fps), "", note, profile.how)


def _right_card(subject: Subject, best: Eval | None) -> dict[str, Any]:
    if best is None:
        command = call("eval", subject.name, "--dataset", "NAME")
        answers = subject.record.answers
        probes = ""
        if answers and answers.labelled:
            probes = (
                f" Of {plural(answers.labelled, 'labelled probe')} {answers.correct} are right."
            )
        return _missing("right answers", f"Not measured. {command}{probes}")
    score = best.overall
    note = f"{percent(score.low)} to {percent(score.high)} (95 %), n = {score.n:,}, {best.asked}"
    return _card("right answers", percent(score.accuracy), "%", note, best.how)


def _energy_card(subject: Subject, profile: Profile | None) -> dict[str, Any]:
    joules = profile and profile.energy_j_per_answer
    if profile is None or joules is None:
        return _missing("energy of an answer", no_energy(profile))
    power = profile.power
    note = f"{figure(power.watts)} W in the mean" if power and power.watts else "idle included"
    return _card(
        "energy of an answer", figure(joules), "J", note, (power and power.how) or profile.how
    )


def _tokens(subject: Subject) -> str:
    tokens = subject.tokens
    return f"{tokens['kept']} of {tokens['of']} image tokens"


def _card(name: str, value: str, unit: str, note: str, how: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "note": note, "how": of_how(how),
            "sort": label(how)}  # fmt: skip


def _missing(name: str, why: str) -> dict[str, Any]:
    return {"name": name, "value": "–", "unit": "", "note": why, "how": "", "sort": "none"}
