"""From what is known about some bundles to the bytes of one HTML page.

The page is whole by itself: styles and pictures are inside, there is no script, and its content
security policy forbids to load anything. Strangers' text is cleaned and escaped by the environment
and not by whoever writes a template. The same input gives the same bytes: no clock is read.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from edgevlm.devices.report.alerts import alerts
from edgevlm.devices.report.compare import (
    Front,
    compare_notes,
    compare_plots,
    compare_rows,
    wait_title,
)
from edgevlm.devices.report.drift import part_rows, pass_rows
from edgevlm.devices.report.evaluated import Eval
from edgevlm.devices.report.kernels import kernels_view
from edgevlm.devices.report.making import derived_view, drop_words, versions
from edgevlm.devices.report.subject import Probe, Subject
from edgevlm.devices.report.summary import cards, sentences
from edgevlm.devices.report.timing import profile_view, turns_view
from edgevlm.devices.report.words import (
    call,
    clean,
    label,
    of_how,
    of_moment,
    percent,
    plural,
    printed,
    short,
)

__all__ = ["render"]

TEMPLATES = Path(__file__).with_name("templates")
KINDS, FILES = 24, 60  # rows of a table
RECIPE = 60_000  # characters
TINY = 64  # pixels; smaller pictures are shown as squares, not blurred


def render(subjects: Sequence[Subject], front: Front) -> bytes:
    """UTF-8 of the page. front: places of the (cost, gain) points that nothing beats."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = compare_plots(subjects, front) if len(subjects) > 1 else []
    several = f"{len(subjects)} bundles compared"
    text = environment.get_template("page.html").render(
        title=short(subjects[0].name, 100) if len(subjects) == 1 else several,
        style=Markup((TEMPLATES / "style.css").read_text()),
        bundles=[_bundle(f"b{i + 1}", subject) for i, subject in enumerate(subjects)],
        plots=plots,
        guesses=any(plot["guesses"] for plot in plots),
        any_eval=any(s.evals for s in subjects),
        rows=compare_rows(subjects),
        wait=wait_title(subjects),
        compare_notes=compare_notes(subjects),
    )
    return text.encode()


def _bundle(anchor: str, subject: Subject) -> dict[str, Any]:
    told = alerts(subject)
    quant = subject.record.quant
    turns = (
        turns_view(subject.record.payoff, "no pruning", "pruned"),
        turns_view(quant and quant.speed, "float", "quantised"),
    )
    files = list(subject.files.items())
    return {
        "anchor": anchor,
        "name": short(subject.name, 100),
        "alerts": [w for w in told if w["level"] != "note"],
        "sentences": sentences(subject),
        "cards": cards(subject),
        "profile_command": call("profile", subject.name, "--ops"),
        "profiles": [profile_view(subject, profile) for profile in subject.profiles],
        "turns": [view for view in turns if view],
        "evals": [_eval(one) for one in subject.evals],
        "parts": part_rows(subject),
        "kernels": kernels_view(subject),
        "passes": pass_rows(subject),
        "notes": [*subject.record.notes, *subject.extra],
        "proof": _proof(subject),
        "recipe": escape(clean(subject.recipe, RECIPE)),
        "versions": versions(subject),
        "derived": derived_view(subject),
        "drop": drop_words(subject),
        "digest": subject.digest,
        "source_digest": subject.source_digest,
        "files": [
            {"name": name, "bytes": f"{size:,}", "sha256": digest}
            for name, (size, digest) in files[:FILES]
        ],
        "files_left_out": max(0, len(files) - FILES),
        "probes": [_probe(i, probe) for i, probe in enumerate(subject.probes)],
        "probe_words": _probe_words(subject),
    }  # fmt: skip


def _eval(one: Eval) -> dict[str, Any]:
    kinds = list(one.kinds.items())
    rows = [*kinds[:KINDS], ("overall", one.overall)]
    more = f" {len(kinds) - KINDS} more kinds are not listed." if len(kinds) > KINDS else ""
    metric = one.metric[:1].upper() + one.metric[1:]
    at = f" on {of_moment(one.at)}" if one.at else ""
    return {
        "asked": one.asked,
        "how": of_how(one.how),
        "sort": label(one.how),
        "words": f"{metric}, measured{at}; intervals are Wilson's.{more}",
        "rows": [
            {"name": short(name, 60), "whole": name == "overall", "right": percent(s.accuracy),
             "interval": f"{percent(s.low)} – {percent(s.high)}", "n": f"{s.n:,}",
             "bar": f"{100 * (s.accuracy or 0):.1f}%"}
            for name, s in rows
        ],
    }  # fmt: skip


def _proof(subject: Subject) -> list[dict[str, str]]:
    """What the manifest says, and what has been measured since."""
    since = {
        "latency": subject.measured and "measured since, see speed and energy",
        "task accuracy": subject.evals and "measured since, see accuracy",
    }
    rows = [{"what": k, "how": v, "state": "done"} for k, v in subject.verified.items()]
    changed = subject.changed_files
    how = f"{plural(len(changed), 'difference')} from SHA256SUMS" if changed else (
        f"all {len(subject.files)} are what SHA256SUMS and the manifest say, read for this page"
    )  # fmt: skip
    rows.append({"what": "files", "how": how, "state": "bad" if changed else "done"})
    if subject.answered:
        state = "bad" if subject.answered_wrong else "done"
        rows.append({"what": "answers, again", "how": subject.answered, "state": state})
    for what, why in subject.not_verified.items():
        done = since.get(what)
        rows.append({"what": what, "how": done or why, "state": "done" if done else "open"})
    return rows


def _probe(i: int, probe: Probe) -> dict[str, Any]:
    uri = None
    if probe.picture is not None:
        data = base64.b64encode(probe.picture).decode()
        uri = Markup(f"data:image/png;base64,{data}")
    return {
        "uri": uri,
        "wide": probe.size[0],
        "high": probe.size[1],
        "tiny": max(probe.size) < TINY,
        "alt": f"Probe {i + 1}: {short(probe.question, 120) or 'a picture'}",
        "fault": probe.fault,
        "question": short(probe.question, 300),
        "answer": short(probe.answer, 200),
    }


def _probe_words(subject: Subject) -> str:
    if not subject.probes:
        return "This bundle carries no probes."
    said = f"{plural(len(subject.probes), 'picture')} with what the bundle answers"
    if subject.probes_left_out:
        said += f"; {subject.probes_left_out} more are in its folder"
    answers = subject.record.answers
    if answers and answers.probes:
        said += f". {answers.agree_with_source} of {answers.probes} answers are the source model's"
        if answers.labelled:
            said += f", and {answers.correct} of {answers.labelled} are right by their labels"
    return f"{said}."
