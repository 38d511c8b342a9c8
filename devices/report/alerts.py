"""What a reader must know before quoting a figure, the worst first."""

from __future__ import annotations

from edgevlm.devices.report.measured import Profile, is_measured
from edgevlm.devices.report.placement import elsewhere
from edgevlm.devices.report.subject import Subject
from edgevlm.devices.report.words import call, of_how, plural, short

__all__ = ["alerts"]

LEVELS = ("problem", "caution", "note")
LEAST_REQUESTS, LEAST_ASKED = 30, 100
FAR_DB = 20.0  # under which a part is told to have strayed: an error of a tenth of the signal
BUSY = 0.5  # runnable threads a core before the first request, as for `edgevlm doctor`


def alerts(subject: Subject) -> list[dict[str, str]]:
    """level (a word of `LEVELS`) and text."""
    found = [*_whole(subject), *_strayed(subject)]
    for profile in subject.profiles:
        found += _timed(subject, profile)
    if not subject.profiles:
        found.append(("note", f"Speed has not been measured: {call('profile', subject.name)}"))
    for one in subject.evals:
        if one.overall.n < LEAST_ASKED:
            text = f"{one.asked}: {plural(one.overall.n, 'answer')} only, look at the interval."
            found.append(("caution", text))
    if not subject.evals:
        command = call("eval", subject.name, "--dataset", "NAME")
        found.append(("note", f"Accuracy on a task has not been measured: {command}"))
    return [{"level": w, "text": t} for w, t in sorted(found, key=lambda f: LEVELS.index(f[0]))]


def _whole(subject: Subject) -> list[tuple[str, str]]:
    found = []
    if files := subject.changed_files:
        more = f" and {len(files) - 3} more" if files[3:] else ""
        told = "; ".join(short(f, 160) for f in files[:3])
        found.append(("problem", f"The files are not what was compiled: {told}{more}."))
    if subject.answered_wrong:
        found.append(("problem", subject.answered or "The probes are answered otherwise now."))
    answers = subject.record.answers
    if answers and answers.agree_with_source < answers.probes:
        differ = answers.probes - answers.agree_with_source
        found.append((
            "caution",
            f"{differ} of {plural(answers.probes, 'probe answer')} differ from the source model's.",
        ))  # fmt: skip
    memory = subject.record.memory
    if memory and memory.verdict not in ("fits", None):
        level = "problem" if memory.verdict == "does not fit" else "caution"
        found.append((level, f"Memory ({of_how(memory.how)}): {memory.text}"))
    if not subject.record.parts:
        found.append(("caution", "The record of the compile is missing: no drift, no payoff."))
    return found


def _strayed(subject: Subject) -> list[tuple[str, str]]:
    found = []
    for part in subject.record.parts:
        db = part.drift.sqnr_db
        if db is not None and db < FAR_DB:
            text = f"{part.role} is {db:.1f} dB from {part.drift.against or 'its reference'}: far."
            found.append(("caution", text))
    for turns, other in (
        (subject.record.payoff, "no pruning"),
        (subject.record.quant and subject.record.quant.speed, "float"),
    ):
        if turns and turns.slower and turns.ratio:
            text = f"Measured slower than {other}: {turns.ratio.median:.2f}× of its time."
            found.append(("problem", text))
    return found


def _timed(subject: Subject, profile: Profile) -> list[tuple[str, str]]:
    found, place = [], short(profile.place, 80)
    if not is_measured(profile.how) and not subject.measured:
        found.append(("caution", f"Times of {place} are {of_how(profile.how)}, not measured."))
    if is_measured(profile.how) and profile.n is not None and profile.n < LEAST_REQUESTS:
        text = f"{place}: {plural(profile.n, 'timed request')} only, percentiles say little."
        found.append(("caution", text))
    if profile.thermal and profile.thermal.throttled:
        found.append(
            ("problem", f"{place}: it throttled while it was measured; it is faster when cool.")
        )
    if profile.sustained and profile.sustained.slower and profile.sustained.ratio:
        ratio = f"{profile.sustained.ratio:.2f}×"
        text = f"{place}: it does not hold its pace, its last third took {ratio} its first."
        found.append(("caution", text))
    load, cores = profile.host.load_average, profile.host.cores
    if load and cores and load[0] > BUSY * cores:
        text = f"{place}: busy when it was timed, load {load[0]:g} for {plural(cores, 'core')}."
        found.append(("caution", text))
    wrong = elsewhere(profile.layers, subject.expected)
    if wrong and is_measured(profile.how):
        unit = (subject.expected or "").upper()
        text = f"{plural(len(wrong), 'node')} ran elsewhere than on the {unit}: {place}."
        found.append(("problem", text))
    return found
