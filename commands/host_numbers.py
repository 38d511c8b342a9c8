"""What the parts of a bundle take and give in one request, run on this machine.

A device's own numbers are held against these; and what is timed there works on real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgevlm.commands.session import open_for_answers, open_for_looks
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.generate import Trace
from edgevlm.models.processing.image import load_image

__all__ = ["HostNumbers", "host_numbers"]

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class HostNumbers:
    """By part. missing: why there are none, as where the runtime is not installed here."""

    feeds: Mapping[Role, Arrays] = field(default_factory=dict)
    outputs: Mapping[Role, Arrays] = field(default_factory=dict)
    missing: str | None = None


def host_numbers(bundle: Bundle, image: str | None, prompt: str | None) -> HostNumbers:
    """Of the picture and question given, else of the first golden.

    Outputs are those of parts that hang on their inputs alone. Raises what opening a broken bundle
    does.
    """
    golden = bundle.manifest.goldens[0] if bundle.manifest.goldens else None
    if image is None and golden is None:
        return HostNumbers(missing="the bundle carries no goldens")
    rgb = load_image(Path(image) if image else bundle.folder / golden.image)
    question = prompt if image else golden.question
    trace = Trace(feeds={})
    try:
        if bundle.manifest.contract.kind == "vlm":
            asked = open_for_answers(bundle).answerer
            for _ in asked.stream(asked.look(rgb, trace), question or "", trace=trace, max_new=2):
                pass
            before = asked.prompt(question or "")
            ids = np.zeros((1, asked.contract.prompt_capacity), np.int64)
            words = [*before.before, *before.after]
            ids[0, : len(words)] = words
            trace.feeds["embed"] = {"input_ids": ids}
        else:
            asked = open_for_looks(bundle)
            asked.look(rgb, trace)
    except EdgeError as fault:
        if fault.code == "EV302":
            return HostNumbers(missing=f"not installed here: {fault.why}")
        raise
    plain = {role: feeds for role, feeds in trace.feeds.items() if role != "decode"}
    outputs = {
        role: {
            name: np.array(value)
            for name, value in asked.parts.call(role, feeds).items()
            if isinstance(value, np.ndarray)  # what a runtime holds stays there
        }
        for role, feeds in plain.items()
    }
    return HostNumbers(trace.feeds, outputs)
