"""--classes, --domain, --alpha, --latency-budget, --purify and --recover as steps of a recipe.

--classes cat,dog,truck      logits of these alone
--domain FOLDER              a VLM for pictures and questions as these (they are its --calib)
--alpha 0.6                  a vision part with 0.4 of its multiplications, fitted to --calib
--latency-budget 5ms         the same, as much as it takes on the target
--purify 600                 units that mislead go first, by trained masks (needs the torch extra)
--recover 300                the narrowed part is taught by the whole one (needs the torch extra)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.recipe import Step

__all__ = ["DERIVE_STEPS", "TRAIN_STEPS", "Derived", "derived_of", "parse_derived"]

#: passes that make another model of what is there, in whatever order a recipe has them
DERIVE_STEPS = ("keep-classes", "purify-units", "narrow-encoder", "recover-encoder")
#: those of them that train, on pictures with what is known of them
TRAIN_STEPS = ("purify-units", "recover-encoder")
BUDGET = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,4})?) ?(ms|s)")


@dataclass(frozen=True)
class Derived:
    """What a model is derived for, and how small it becomes."""

    classes: tuple[str, ...] = ()  # as the user wrote them
    alpha: float | None = None  # share of the multiplications that goes
    budget_ms: float | None = None  # of the vision part on the target
    purify: int | None = None  # steps of training masks
    recover: int | None = None  # steps of teaching what was narrowed
    domain: str | None = None  # a folder or data set that a VLM is derived for

    @property
    def narrows(self) -> bool:
        return self.alpha is not None or self.budget_ms is not None

    def steps(self, kind: str = "classifier") -> list[Step]:
        """kind: of the model. Rows of a domain tell what a VLM's masks are judged by: answers."""
        found = []
        if self.classes:
            found.append(Step("keep-classes", {"classes": list(self.classes)}))
        if self.purify:
            other = {"by": "lm" if self.domain else "features"}
            by = {} if kind == "classifier" else other
            found.append(Step("purify-units", {"steps": self.purify} | by))
        if self.alpha is not None:
            found.append(Step("narrow-encoder", {"alpha": self.alpha}))
        if self.budget_ms is not None:  # commands/narrow_latency.py has the clock
            found.append(Step("narrow-encoder", {"budget_ms": self.budget_ms}))
        if self.recover:
            found.append(Step("recover-encoder", {"steps": self.recover}))
        return found


def parse_derived(
    classes: str | None,
    alpha: float | None,
    latency: str | None,
    *,
    domain: str | None = None,
    purify: int | None = None,
    recover: int | None = None,
) -> Derived | None:
    """None where nothing was asked for. Raises UsageFault EV220, EV250."""
    if (classes, alpha, latency, domain, purify, recover) == (None,) * 6:
        return None
    if (classes, alpha, latency, domain) == (None,) * 4:
        raise _alone("--purify" if purify else "--recover", "nothing is derived")
    narrows = alpha is not None or latency is not None
    if recover and not (narrows or purify):
        raise _alone("--recover", "nothing takes anything away from the encoder")
    if domain is not None and classes is not None:
        raise UsageFault(
            "EV220",
            "--domain with --classes",
            "a VLM is derived for a domain, a classifier for classes",
            "leave one of them out",
        )
    if domain is not None and not (narrows or purify):
        raise UsageFault(
            "EV220",
            f"--domain {domain[:80]}",
            "nothing is fitted to it, so it would do nothing",
            "--alpha 0.5, or --purify",
        )
    if alpha is not None and latency is not None:
        raise UsageFault(
            "EV220",
            "--alpha with --latency-budget",
            "each of them says how much of the vision part stays",
            "leave one of them out",
        )
    if alpha is not None and not 0 < alpha < 1:  # also when it is not a number
        raise UsageFault(
            "EV250",
            f"--alpha {alpha:g}",
            "it is the share of the vision part's multiplications that goes: between 0 and 1",
            "--alpha 0.6  leaves 0.4 of them",
        )
    names = tuple(name.strip() for name in (classes or "").split(","))
    chosen = names if classes is not None else ()
    return Derived(chosen, alpha, _milliseconds(latency), purify, recover, domain)


def _alone(option: str, why: str) -> UsageFault:
    return UsageFault(
        "EV220",
        f"{option} by itself",
        f"{why}, so it would do nothing",
        f"--alpha 0.5 {option}, or leave it out",
    )


def derived_of(steps: Sequence[Step]) -> Derived | None:
    """What the steps of a recipe derive a model for; None where they do not derive one.

    How small it becomes is left to them.
    """
    named = {step.name: step.options for step in steps if step.name in DERIVE_STEPS}
    if not named:
        return None
    classes = named.get("keep-classes", {}).get("classes", ())
    return Derived(tuple(map(str, classes)))


def _milliseconds(text: str | None) -> float | None:
    match = BUDGET.fullmatch(text or "")
    if text is None:
        return None
    found = float(match[1]) * (1000 if match[2] == "s" else 1) if match else 0.0
    if not 0 < found < math.inf:
        raise UsageFault(
            "EV250",
            f"--latency-budget {text[:40]}",
            "it is a time with its unit",
            "--latency-budget 5ms",
        )
    return found
