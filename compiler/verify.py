"""The proof after every pass: the probe set through the model before and after, part by part.

    exact         same inputs to each part, outputs equal to rounding (EXACT_FLOOR_DB); same answers
    approximate   the same comparison, bounded below by `min_sqnr`; answers counted
    structural    shapes differ, so logits and answers of the whole chain are compared and recorded

A pass over its tolerance stops the compile, naming the first node whose value strayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import Drift, measure, worst
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds, PartCaller, ReferenceParts, open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import Trace, classify, encode_image, generate
from edgevlm.compiler.pass_base import Effect

__all__ = [
    "EXACT_FLOOR_DB",
    "Check",
    "ProbeInput",
    "Reference",
    "check_pass",
    "compare_parts",
    "first_stray",
    "observe",
]

#: dB; float32 rounding of a reordered sum stays well above this, a wrong graph far below
EXACT_FLOOR_DB = 80.0
INDEX = "image_index"
MAX_ANSWER = 16  # tokens; enough to see two models disagree


@dataclass(frozen=True)
class ProbeInput:
    """One probe, ready to feed."""

    pixel_values: np.ndarray  # float32 [1,3,H,W]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reference:
    """What a model did on the probes."""

    feeds: list[dict[Role, Feeds]]
    logits: list[np.ndarray]  # of the first answer token, [1,V]
    answers: list[tuple[int, ...]]


@dataclass(frozen=True)
class Check:
    """What one comparison found. `drift` is the worst output of each part over all probes."""

    drift: dict[Role, Drift] = field(default_factory=dict)
    logits: Drift | None = None
    agree: int = 0  # probes with the same answer, token for token
    probes: int = 0

    def as_json(self) -> dict[str, object]:
        return {
            "parts": {role: d.as_json() for role, d in self.drift.items()},
            "logits": self.logits.as_json() if self.logits else None,
            "answers_agree": self.agree,
            "probes": self.probes,
            "how": "measured-host",
        }


def observe(
    model: ExportedModel, probes: Sequence[ProbeInput], parts: PartCaller | None = None
) -> Reference:
    """Run every probe through the chain, keeping what each part was fed."""
    parts = parts or ReferenceParts(model.parts)
    seen = Reference([], [], [])
    for probe in probes:
        trace = Trace(feeds={})
        logits: list[np.ndarray] = []
        if model.contract.kind == "classifier":
            logits.append(classify(parts, probe.pixel_values, trace))
            answer = (int(logits[0].argmax()),)
        else:
            image = encode_image(model.contract, parts, probe.pixel_values, trace)
            ids = np.zeros((1, model.contract.prompt_capacity), np.int64)
            text = [*probe.before, *probe.after]
            ids[0, : len(text)] = text
            trace.feeds["embed"] = {"input_ids": ids}
            answer = tuple(
                generate(
                    model.contract,
                    parts,
                    image,
                    probe.before,
                    probe.after,
                    model.processor.eos_ids,
                    max_new=MAX_ANSWER,
                    trace=trace,
                    on_logits=logits.append,
                )
            )
        seen.feeds.append(trace.feeds)
        seen.logits.append(logits[0])
        seen.answers.append(answer)
    return seen


def compare_parts(
    before: PartCaller, after: PartCaller, reference: Reference, roles: Sequence[Role]
) -> dict[Role, Drift]:
    """Feed both sides the reference's inputs, part by part; the worst output of each."""
    found: dict[Role, Drift] = {}
    for role in roles:
        drifts = []
        for feeds in reference.feeds:
            if role in feeds:
                drifts += _outputs(before.call(role, feeds[role]), after.call(role, feeds[role]))
        if drifts:
            found[role] = worst(drifts)
    return found


def _outputs(want: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> list[Drift]:
    """Output by output. Where a selector chose, tokens are compared with themselves.

    Two tokens may be all but equal, and rounding then decides which one is kept. That is no error of
    the embeddings, so rows are matched by their place in the grid and the overlap is told apart.
    """
    if INDEX not in want:
        return [measure(want[name], got[name], name) for name in want]
    ours, theirs = want[INDEX], got[INDEX]
    shared, at, bt = np.intersect1d(ours, theirs, return_indices=True)
    overlap = len(shared) / len(np.union1d(ours, theirs))
    drifts = [measure(want[name][:, at], got[name][:, bt], name) for name in want if name != INDEX]
    return [replace(drift, overlap=overlap) for drift in drifts]


def check_pass(
    name: str,
    effect: Effect,
    before: ExportedModel,
    after: ExportedModel,
    reference: Reference,
    probes: Sequence[ProbeInput],
    min_sqnr: float,
) -> tuple[Check, Reference]:
    """Judge a pass; returns the finding and the observation of the new model.

    Raises EV206 (drift) or EV207 (answers) for a pass that strayed further than its effect allows.
    """
    drift: dict[Role, Drift] = {}
    if effect is not Effect.STRUCTURAL:
        changed = [r for r in after.parts if after.parts[r] is not before.parts[r]]
        drift = compare_parts(
            ReferenceParts(before.parts), ReferenceParts(after.parts), reference, changed
        )
        floor = EXACT_FLOOR_DB if effect is Effect.EXACT else min_sqnr
        for role, found in drift.items():
            if found.sqnr_db < floor:
                node = first_stray(before.parts[role], after.parts[role], reference, role, floor)
                raise JobFault(
                    "EV206",
                    f"pass {name} changed part {role}, output {found.where}",
                    f"SQNR {found.sqnr_db:.1f} dB is under {floor:.0f} dB; first strayed at {node}",
                    "edgevlm compile ... --min-sqnr DB, or leave the pass out of the recipe",
                )
    seen = observe(after, probes)
    agree = sum(a == b for a, b in zip(reference.answers, seen.answers, strict=True))
    if effect is Effect.EXACT and agree < len(probes):
        raise JobFault(
            "EV207",
            f"pass {name} changed {len(probes) - agree} of {len(probes)} answers",
            "it claims to keep the function exactly",
            "please report this with the recipe",
        )
    logits = worst(
        [measure(a, b, "logits") for a, b in zip(reference.logits, seen.logits, strict=True)]
    )
    return Check(drift, logits, agree, len(probes)), seen


def first_stray(
    before: ir.Model, after: ir.Model, reference: Reference, role: Role, floor: float
) -> str:
    """The first node (in graph order) whose value, known by the same name, is under `floor` dB."""
    old = {str(v.name): v for n in before.graph for v in n.outputs if v.dtype is not None}
    shared = [
        v
        for n in after.graph
        for v in n.outputs
        if (twin := old.get(str(v.name))) is not None
        and twin.shape == v.shape
        and v.dtype is not None
        and v.dtype.is_floating_point()
    ]
    feeds = next(f[role] for f in reference.feeds if role in f)
    names = [str(v.name) for v in shared]
    want = open_session(before, outputs=tuple(old[n] for n in names)).run(names, dict(feeds))
    got = open_session(after, outputs=tuple(shared)).run(names, dict(feeds))
    for value, a, b in zip(shared, want, got, strict=True):
        drift = measure(a, b, str(value.name))
        if drift.sqnr_db < floor:
            node = value.producer()
            return f"{node.name} ({node.op_type}), {drift.sqnr_db:.1f} dB"
    return "a value that has no name in both graphs"
