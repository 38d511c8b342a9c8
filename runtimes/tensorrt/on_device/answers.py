"""Whole answers of the engines against those of the host, token for token.

As the host does with its artifacts (commands/artifacts.py), two answers that part are told and let
pass in two cases: a selector kept other ones of all but equal image tokens, or two words were all
but equal. Of the second the host's logits of the first word tell, which come with every golden:

    apart   how far the logits of the first word are from the host's, at most
    tied    where the answers part, our word leads the host's by no more than twice that
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.generate import Trace
from edgevlm.runtimes.tensorrt.on_device.goldens import OutputCheck, alike_choice, signal_to_noise
from edgevlm.runtimes.tensorrt.on_device.plan import Plan
from edgevlm.runtimes.tensorrt.on_device.tensors import Tensors
from edgevlm.runtimes.tensorrt.on_device.timing import ask

__all__ = ["AnswerCheck", "check_answers", "failure_of", "near_tie", "notes_of"]

#: dB between the logits of both, as in compiler/near_ties.py; less would be another function
ALIKE_DB = 10.0


@dataclass
class AnswerCheck:
    """One golden. note: why other tokens are right as well, where they are."""

    question: str
    answer: str  # the host's
    token_ids: list[int]
    wanted: list[int]
    ok: bool
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def check_answers(plan: Plan, parts: Any, tensors: Tensors, count: int | None) -> list[AnswerCheck]:
    """A row for each of the first `count` goldens (None: all), of a plan that `is_whole`."""
    return [_check(plan, parts, tensors, i) for i in range(len(plan.goldens[:count]))]


def notes_of(answers: Sequence[AnswerCheck]) -> list[str]:
    return [f"golden {i}: {row.note}" for i, row in enumerate(answers) if row.note]


def failure_of(
    checks: Sequence[OutputCheck], answers: Sequence[AnswerCheck], fix: str
) -> JobFault | None:
    """EV353 where a part or an answer is not the host's."""
    unlike = [f"{c.role}/{c.name}" for c in checks if not c.ok]
    other = sum(not answer.ok for answer in answers)
    why = [f"outputs stray from the host's: {', '.join(unlike[:5])}"] if unlike else []
    why += [f"{other} of {len(answers)} goldens have other token ids"] if other else []
    what = "the engines do not answer as the bundle was compiled to"
    return JobFault("EV353", what, "; ".join(why), fix) if why else None


def _check(plan: Plan, parts: Any, tensors: Tensors, i: int) -> AnswerCheck:
    golden, trace, logits = plan.goldens[i], Trace(), []
    # one more than is right, so that an answer that goes on is seen
    limit = min(len(golden.token_ids) + 1, plan.max_answer)
    asked = (plan.contract, parts, plan.kind, *tensors.request(i), plan.eos_ids)
    ids, _ = ask(*asked, max_new=limit, trace=trace, on_logits=logits.append)
    row = AnswerCheck(golden.question, golden.answer, ids, golden.token_ids, True)
    if ids != golden.token_ids and (plan.kind == "vlm" or golden.token_ids):
        row.note = _other_choice(trace.choices, tensors.choices(i)) or near_tie(
            ids,
            golden.token_ids,
            [each[0] for each in logits],
            tensors.first_logits(i),
            plan.eos_ids,
        )
        row.ok = bool(row.note)
    return row


def _other_choice(ours: Mapping[str, Any], theirs: Mapping[str, np.ndarray]) -> str:
    """Which selector kept other tokens that are as good as the host's; empty where none did.

    Those behind it are given other tokens to choose of, and are not held against the host's.
    """
    for name in theirs:  # in the order in which they choose
        found = np.asarray(ours.get(name, ()))
        if not np.array_equal(found, theirs[name]):
            return (
                f"{name}: other image tokens were kept" if alike_choice(found, theirs[name]) else ""
            )
    return ""


def near_tie(
    ids: Sequence[int],
    wanted: Sequence[int],
    logits: Sequence[np.ndarray],
    first: np.ndarray | None,
    eos_ids: Sequence[int],
) -> str:
    """Why `ids` are as right as `wanted`; empty where they are not.

    logits: ours of each step, [V]; first: the host's of the first step, [V].
    """
    at = next(
        (i for i, (a, b) in enumerate(zip(ids, wanted)) if a != b), min(len(ids), len(wanted))
    )
    if first is None or at >= len(logits) or logits[0].shape != first.shape:
        return ""
    if signal_to_noise(first, logits[0]) < ALIKE_DB:
        return ""
    finite = np.isfinite(first)
    apart = np.abs(first[finite].astype(np.float64) - logits[0][finite]).max()
    ours = logits[at].astype(np.float64)
    theirs = [wanted[at]] if at < len(wanted) else list(eos_ids)
    told = [ours[token] for token in theirs if token < len(ours)]
    lead = ours.max() - max(told) if told else np.inf
    if not lead <= 2 * apart:
        return ""
    return f"token {at}: two are all but equal ({lead:.3g} apart, the host is within {apart:.3g})"
