"""What a model does on some probes: what every part was fed, what came out, what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.executor import Feeds, PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import Trace, classify, encode_image, generate

__all__ = ["MAX_ANSWER", "Reference", "observe", "shown"]

MAX_ANSWER = 16  # tokens; enough to see two models disagree


@dataclass(frozen=True)
class Reference:
    """What a model did on the probes."""

    feeds: list[dict[Role, Feeds]]
    logits: list[np.ndarray]  # of the first answer token, [1,V]
    answers: list[tuple[int, ...]]
    choices: list[dict[str, np.ndarray]] = field(default_factory=list)  # which tokens were kept
    contract: Contract | None = None
    starts: list[int] = field(default_factory=list)  # text tokens in front of the image
    rows: list[list[dict[str, np.ndarray]]] = field(default_factory=list)  # decode's, a step each
    truths: list[str | None] = field(default_factory=list)
    said: list[tuple[int, ...]] = field(default_factory=list)  # truths as tokens

    def among(self, classes: Sequence[int]) -> Reference:
        """What a classifier says where it may only say these."""
        logits = [each[:, list(classes)] for each in self.logits]
        return replace(self, logits=logits, answers=[(int(e.argmax()),) for e in logits])

    def some(self, which: Sequence[int]) -> Reference:
        """On these probes alone."""
        lists = {
            one.name: [each[i] for i in which] if each else each
            for one in fields(self)
            if isinstance(each := getattr(self, one.name), list)
        }
        return replace(self, **lists)

    def runs(self, role: Role) -> list[int]:
        """Probes on which a part ran."""
        return [i for i, feeds in enumerate(self.feeds) if role in feeds]

    def fed(self, role: Role) -> list[Feeds]:
        """What it was given on them."""
        return [feeds[role] for feeds in self.feeds if role in feeds]


def shown(model: ExportedModel, probes: Sequence[ProbeInput]) -> Reference:
    """What the vision part is fed on them; nothing is run, so there are no logits and answers."""
    return Reference(
        [{"vision": {"pixel_values": probe.pixel_values}} for probe in probes],
        [],
        [],
        contract=model.contract,
        truths=[probe.truth for probe in probes],
        said=[probe.said for probe in probes],
    )


def observe(
    model: ExportedModel, probes: Sequence[ProbeInput], parts: PartCaller | None = None
) -> Reference:
    """Run every probe through the chain, keeping what each part was fed."""
    parts = parts or ReferenceParts(model.parts)
    seen = Reference([], [], [], [], model.contract)
    for probe in probes:
        trace = Trace(feeds={})
        logits: list[np.ndarray] = []
        if model.contract.kind != "vlm":
            logits.append(classify(parts, probe.pixel_values, trace))
            answer = (int(logits[0].argmax()),) if model.contract.kind == "classifier" else ()
        else:
            image = encode_image(model.contract, parts, probe.pixel_values, trace)
            ids = np.zeros((1, model.contract.prompt_capacity), np.int64)
            text = [*probe.before, *probe.after]
            ids[0, : len(text)] = text
            trace.feeds["embed"] = {"input_ids": ids}
            prompt = (model.contract, parts, image, probe.before, probe.after)
            limits = {"max_new": MAX_ANSWER, "trace": trace}
            answer = tuple(
                generate(*prompt, model.processor.eos_ids, on_logits=logits.append, **limits)
            )
            if "decode" not in trace.feeds:  # an answer without words would leave decode unseen
                limits["max_new"] = 2
                tuple(generate(*prompt, (), **limits))
        seen.feeds.append(trace.feeds)
        seen.starts.append(len(probe.before))
        seen.logits.append(logits[0])
        seen.answers.append(answer)
        seen.choices.append(trace.choices)
        seen.rows.append(trace.rows)
        seen.truths.append(probe.truth)
        seen.said.append(probe.said)
    return seen
