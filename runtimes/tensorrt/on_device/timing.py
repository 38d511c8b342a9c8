"""What one answer takes, stage by stage, by the clock around the calls of the token loop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Callable, Sequence

import numpy as np

from edgevlm.compiler.generate import Trace, classify, encode_image, generate

__all__ = ["SEEN_ONLY", "Stage", "Times", "ask"]

SEEN_ONLY = "vlm, seen only"
STAGES = ("vision", "connector", "prefill", "decode", "ttft", "end_to_end")


@dataclass
class Stage:
    """Milliseconds: the middle one, and the one that a tenth of the calls is slower than."""

    p50_ms: float
    p90_ms: float
    n: int


@dataclass
class Times:
    """Seconds of every call, by stage. `decode` has an entry a token, all others one an answer."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: dict[str, list[float]]) -> None:
        for stage, taken in seconds.items():
            self.seconds.setdefault(stage, []).extend(taken)

    def stages(self) -> dict[str, Stage]:
        """Those that were seen, in the order in which they run."""
        found = {}
        for name in STAGES:
            taken = self.seconds.get(name)
            if taken:
                p50, p90 = (float(np.percentile(taken, at)) * 1e3 for at in (50, 90))
                found[name] = Stage(p50, p90, len(taken))
        return found

    @property
    def tokens_per_s(self) -> float | None:
        """Of decode alone, over all its steps; None where no answer has a second token."""
        taken = self.seconds.get("decode")
        return len(taken) / sum(taken) if taken else None

    def as_json(self) -> dict[str, Any]:
        stages = {name: asdict(stage) for name, stage in self.stages().items()}
        return {"stages": stages, "tokens_per_s": self.tokens_per_s}

    def lines(self) -> list[str]:
        rows = [
            f"{name:<12} p50 {stage.p50_ms:9.2f} ms   p90 {stage.p90_ms:9.2f} ms   n {stage.n}"
            for name, stage in self.stages().items()
        ]
        rate = self.tokens_per_s
        return [*rows, f"{rate:.1f} tokens/s"] if rate else rows


def ask(
    contract: Any,
    parts: Any,
    kind: str,
    pixels: np.ndarray,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    eos_ids: Sequence[int] = (),
    *,
    max_new: int | None = None,
    trace: Trace | None = None,
    on_logits: Callable[[np.ndarray], Any] | None = None,
) -> tuple[list[int], dict[str, list[float]]]:
    """One picture and one question: token ids ([class] of a classifier), and seconds by stage.

    kind: of the plan; SEEN_ONLY where the language half of the model runs elsewhere.
    on_logits: is called with [1,V] of every step; max_new: steps at most.
    """
    trace = trace or Trace()
    start = perf_counter()
    if kind == SEEN_ONLY:
        encode_image(contract, parts, pixels, trace)
        return [], {**trace.seconds, "end_to_end": [perf_counter() - start]}
    if kind != "vlm":
        seen = classify(parts, pixels, trace)
        ids = [int(seen[0].argmax())] if kind == "classifier" else []
        if ids and on_logits:
            on_logits(seen)
        return ids, {**trace.seconds, "end_to_end": [perf_counter() - start]}
    image = encode_image(contract, parts, pixels, trace)
    ids = []
    how = {"max_new": max_new, "trace": trace, "on_logits": on_logits}
    for token in generate(contract, parts, image, before, after, eos_ids, **how):
        if not ids:
            trace.seconds["ttft"] = [perf_counter() - start]
        ids.append(token)
    return ids, {**trace.seconds, "end_to_end": [perf_counter() - start]}
