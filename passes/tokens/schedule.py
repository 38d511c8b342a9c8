"""--tokens, --prune and --prune-at as steps of a recipe: which method, where, with which budget.

--tokens 64 | 25% | 50%,25%          a budget a site; one number falls to itself by equal factors
--prune dart:pivots=8                a method and its options; of DEFAULTS where none is named
--prune-at vision:6,llm:2            sites; the method's own where none are given
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from edgevlm.compiler.blocks import find_blocks
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.recipe import Step
from edgevlm.passes.tokens.forms import find_form, why_not
from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.methods import METHODS, find_method
from edgevlm.passes.tokens.sites import Site, parse_site

__all__ = ["DEFAULTS", "Asked", "parse_asked"]

#: where no method is named: of a kind of model, and of a kind of site that a VLM is asked for; the
#: first that the target runs. docs/measurements.md, "Where no method is named", has the figures.
DEFAULTS = {
    "vlm": ("fastv",),
    "classifier": ("tome",),
    "dense": ("tome",),
    "llm": ("fastv",),
    "connector-out": ("apet", "stride"),
    "vision-out": ("prumerge",),
    "vision": ("grid-max",),
    "several kinds": ("apet", "stride"),
}
BUDGET = re.compile(r"([0-9]{1,7})|([0-9]{1,3}(?:\.[0-9]{1,4})?)%")
OPTION = re.compile(r"([a-z][a-z0-9_]{0,30})=([^=,]{1,200})")


@dataclass(frozen=True)
class Asked:
    """A reduction as asked for on the command line, checked as far as it can be without a model."""

    budgets: tuple[str, ...]
    method: str | None  # None: none was named
    options: dict[str, str]
    sites: tuple[Site, ...]  # empty: the method's own
    position: str = "original"

    def settled(self, model: ExportedModel, form: str) -> Asked:
        """With a method, for this model and form of selectors. Raises EV203 for no tokens."""
        if self.method is not None:
            return self
        contract, sites = model.contract, self.sites
        if not sites:
            for text in self.budgets:  # none at all is possible at llm:L, but nobody said so
                _within(_tokens(text, contract.image_tokens), contract.image_tokens)
            if contract.kind == "vlm" and contract.layers == 1:  # no layer has another behind it
                sites = (Site.at("connector-out"),)
        # llm:0 is connector-out with the text in view, and nothing in front of it has looked yet
        kinds = {"connector-out" if s == Site.at("llm", 0) else s.kind for s in sites}
        if not kinds or contract.kind != "vlm":
            kinds = {contract.kind}
        names = DEFAULTS[kinds.pop() if len(kinds) == 1 else "several kinds"]
        methods = (METHODS[name] for name in names)
        runs = (m.name for m in methods if not why_not(find_form(form), m.greedy, m.lowering))
        return replace(self, method=next(runs, names[-1]), sites=sites)

    def steps(self, model: ExportedModel, form: str) -> list[Step]:
        """Of a recipe for this model. Raises EV203 for impossible budgets."""
        asked = self.settled(model, form)
        method = find_method(asked.method)(**asked.options)
        if method.as_pass:
            return [Step(method.as_pass, asked._own_step(method, model, form))]
        sites = list(asked.sites) or _own_sites(method, model)
        count = model.contract.image_tokens
        found = []
        for site, keep in zip(sites, asked._budgets(method, count, sites), strict=True):
            options: dict[str, object] = {"keep": keep, "method": method.name, "at": str(site)}
            if asked.options:
                options["options"] = method.options.model_dump(mode="json", exclude_unset=True)
            if asked.position != "original":
                options["position"] = asked.position
            if form != "ort":
                options["form"] = form
            found.append(Step("keep-tokens", options))
        return found

    def _own_step(self, method: Method, model: ExportedModel, form: str) -> dict[str, object]:
        """Of a method that is a pass of its own: one budget or none, no site, and its options."""
        options = method.options.model_dump(mode="json", exclude_unset=True)
        if not method.budgeted:
            return options | ({} if form == "ort" else {"form": form})
        if self.sites or len(self.budgets) > 1:
            raise UsageFault(
                "EV230",
                f"method {self.method} with {'a site' if self.sites else 'several budgets'}",
                f"it is the pass {method.as_pass}, which has its own place and one budget",
                f"edgevlm compile ... --prune {self.method} --tokens {self.budgets[-1]}",
            )
        step: dict[str, object] = {"tokens": _tokens(self.budgets[0], model.contract.image_tokens)}
        if self.position != "original":
            step["position"] = self.position
        return step | options

    def _budgets(self, method: Method, count: int, sites: list[Site]) -> list[int]:
        asked = [_tokens(text, count) for text in self.budgets]
        if len(asked) == len(sites):
            return asked
        if len(asked) == 1:
            _within(asked[0], count)
            return method.budgets(count, asked[0], sites)
        raise UsageFault(
            "EV203",
            f"{len(asked)} budgets for {len(sites)} sites ({', '.join(map(str, sites))})",
            "a schedule has one budget a site, or one number to fall to",
            "edgevlm compile ... --tokens 50%,25% --prune-at llm:2,llm:16",
        )


def _own_sites(method: Method, model: ExportedModel) -> list[Site]:
    """The method's; behind a third of the blocks where a plain ViT has none of these."""
    blocks = len(find_blocks(model.parts["vision"].graph))
    own = method.default_sites(model.contract.layers, blocks)
    elsewhere = model.contract.kind != "vlm" and any(site.kind != "vision" for site in own)
    if elsewhere and "vision" in method.sites:
        return [Site.at("vision", blocks // 3)]
    return own


def parse_asked(
    tokens: str | None, prune: str | None, prune_at: str | None, positions: str | None = None
) -> Asked | None:
    """Raises EV201 (method), EV202 (its options), EV203 (budget), EV209 (site), EV220 (alone)."""
    given = {"--prune": prune, "--prune-at": prune_at, "--positions": positions}
    # "" is an empty variable of a shell and no request for a default
    name, options = (None, {}) if prune is None else _method(prune)
    if name is not None and not find_method(name)(**options).budgeted:
        return _all_kept(name, options, {**given, "--prune": None, "--tokens": tokens})
    if tokens is None:
        alone = [name for name, text in given.items() if text is not None]
        if alone:
            raise UsageFault(
                "EV220",
                f"{alone[0]} {given[alone[0]]} without --tokens",
                "all image tokens are kept then, and nothing is selected",
                f"add a budget: --tokens 16 {alone[0]} {given[alone[0]]}",
            )
        return None
    budgets = tuple(re.split(r"[,+]", tokens))
    for text in budgets:
        if BUDGET.fullmatch(text.strip()) is None:
            raise UsageFault(
                "EV203",
                f"a budget of {tokens[:60]!r} image tokens",
                "a budget is a number or a share such as 25%, one or one a site",
                "edgevlm compile ... --tokens 25%",
            )
    places = [] if prune_at is None else prune_at.split(",")
    sites = tuple(parse_site(text.strip()) for text in places)
    if list(sites) != sorted(set(sites)):
        raise UsageFault(
            "EV205",
            f"--prune-at {prune_at}",
            "sites are placed in the order in which tokens pass them, one at a place",
            f"--prune-at {','.join(map(str, sorted(set(sites))))}",
        )
    return Asked(
        tuple(text.strip() for text in budgets), name, options, sites, positions or "original"
    )


def _all_kept(name: str, options: dict[str, str], given: dict[str, str | None]) -> Asked:
    """Of a method that has no budget; it stands alone."""
    beside = [f"{option} {text}" for option, text in given.items() if text is not None]
    if beside:
        raise UsageFault(
            "EV220",
            f"--prune {name} with {beside[0]}",
            f"{name} drops no tokens: it is the pass {find_method(name).as_pass}",
            f"edgevlm compile ... --prune {name}",
        )
    return Asked((), name, options, ())


def _method(text: str) -> tuple[str, dict[str, str]]:
    """`name:option=value,...`"""
    name, _, rest = text.partition(":")
    options: dict[str, str] = {}
    for part in rest.split(",") if rest else []:
        match = OPTION.fullmatch(part.strip())
        if match is None:
            raise UsageFault(
                "EV202",
                f"--prune {text[:80]}",
                f"{part.strip()!r} is not option=value",
                f"edgevlm passes show {name}",
            )
        options[match[1]] = match[2].strip()
    return name.strip(), options


def _tokens(text: str, count: int) -> int:
    """Tokens of a budget; a share is of all N and at least one token."""
    match = BUDGET.fullmatch(text)
    if match[1] is not None:
        return int(match[1])
    share = float(match[2])
    if not 0 < share <= 100:
        raise _impossible(text, count)
    return max(1, round(count * share / 100))


def _within(asked: int, count: int) -> None:
    if not 1 <= asked <= count:
        raise _impossible(asked, count)


def _impossible(asked: object, count: int) -> UsageFault:
    return UsageFault(
        "EV203",
        f"a budget of {asked} image tokens",
        f"this model has {count}; the budget is 1 to {count}",
        f"edgevlm compile ... --tokens {max(1, count // 2)}",
    )
