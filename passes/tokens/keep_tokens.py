"""Keep a fixed number of image tokens at one site, chosen inside the graph.

    before: ... [1,N,D] -> everything behind
    after:  ... [1,N,D] -> method -> index [K] -> Gather [1,K,D] -> everything behind, re-shaped

Where (`at`): after any vision block, behind the encoder, behind the connector, in front of any
decoder layer; several steps of a recipe make a schedule. How (`method`): `edgevlm passes list`.
Text and kept tokens keep their original positions unless `position` says otherwise, so a pruned
prompt equals the full prompt with the dropped keys masked (test T1). Shapes follow by the axis
analysis alone. Refuses: a budget the site cannot have, taps the site does not have, a chain of
steps the target cannot run. Expected effect: prefill time and KV bytes fall with (K + T) / (N + T)
from the site on; accuracy falls with what the dropped tokens knew.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.tokens.forms import find_form, why_not
from edgevlm.passes.tokens.methods import METHODS, find_method
from edgevlm.passes.tokens.placing import PLACES, Request
from edgevlm.passes.tokens.sites import list_sites, parse_site

__all__ = ["KeepTokens"]


class KeepTokensOptions(PassOptions):
    keep: int = Field(description="image tokens that stay, 1..N; 0 is possible at llm:L")
    method: str = Field("dart", description="how they are chosen, one of `edgevlm passes list`")
    at: str = Field("connector-out", description="vision:B, vision-out, connector-out or llm:L")
    options: dict[str, Any] = Field({}, description="of the method")
    position: Literal["original", "renumber", "run-end-pad"] = Field(
        "original", description="positions of kept tokens, and what marks dropped ones"
    )
    form: str = Field("ort", description="how selectors are written; the target chooses it")


class KeepTokens(Pass):
    name = "keep-tokens"
    summary = "keep K of N image tokens at one site, by a published method"
    effect = Effect.STRUCTURAL
    after = ("fold-constants", "merge-duplicates", "drop-zero-masks")
    Options = KeepTokensOptions

    def __init__(self, /, **options: object) -> None:
        super().__init__(**options)
        self.site = parse_site(self.options.at)
        self.form = find_form(self.options.form)
        self.method = find_method(self.options.method)(**self.options.options)
        self.calibrated = self.method.calibrated
        if self.method.as_pass:
            raise UsageFault(
                "EV230",
                f"method {self.method.name} as a choice of tokens",
                f"it is a pass of its own, {self.method.as_pass}",
                f'name = "{self.method.as_pass}" in the recipe, or --prune {self.method.name}',
            )

    def requires(self, model: ExportedModel) -> None:
        if self._placed(model):
            return
        self._check_site(model)
        self._check_order(model)
        self._check_target()
        keep, count, whole = self.options.keep, self._count(model), model.contract.image_tokens
        least = 0 if self.site.kind == "llm" else 1
        if keep > count and keep <= whole:
            raise UsageFault(
                "EV203",
                f"a schedule that grows from {count} to {keep} image tokens at {self.site}",
                f"{count} are left in front of it; what is gone does not come back",
                "let the budgets fall from site to site",
            )
        if not least <= keep <= count:
            raise UsageFault(
                "EV203",
                f"a budget of {keep} image tokens",
                f"this model has {count}; the budget is {least} to {count}",
                f"edgevlm compile ... --tokens {max(1, count // 2)}",
            )
        if keep and keep < self.method.least(self.site):
            raise UsageFault(
                "EV203",
                f"a budget of {keep} image tokens for {self.method.name}",
                f"with these options it is defined from {self.method.least(self.site)} on",
                f"edgevlm passes show {self.method.name}",
            )

    def _check_site(self, model: ExportedModel) -> None:
        method, kind = self.method, model.contract.kind
        if kind != "vlm" and self.site.kind != "vision":
            raise UsageFault(
                "EV209",
                f"{self.site} of a {kind}",
                f"a {kind} has {', '.join(list_sites(model.contract, None)) or 'vision:B only'}",
                "edgevlm compile ... --prune-at vision:1, or leave --tokens out",
            )
        if self.site.kind not in method.sites:
            text_free = method.text_aware and self.site.kind != "llm"
            own = method.default_sites(model.contract.layers, None)[0]
            raise UsageFault(
                "EV230",
                f"method {method.name} at {self.site}",
                "it scores against the question, and no text is seen there"
                if text_free
                else f"it works at {', '.join(method.sites)}",
                f"edgevlm compile ... --prune {method.name} --prune-at {own}",
            )
        if self.options.position == "renumber" and self.site.kind == "llm":
            raise UsageFault(
                "EV230",
                f"position renumber at {self.site}",
                "keys in front of it are rotated by their original positions already",
                "renumber at connector-out, or keep the original positions",
            )

    def _check_order(self, model: ExportedModel) -> None:
        """Sites of one part are held against each other where they are placed."""
        contract = model.contract
        behind = [f"llm:{site.layer}" for site in contract.sites]
        if contract.kept_image_tokens < contract.given_tokens:
            behind.insert(0, "connector-out")
        late = next((name for name in behind if parse_site(name) > self.site), None)
        if late and self.site.kind != "llm":
            raise UsageFault(
                "EV205",
                f"{self.site} comes behind {late} in the recipe",
                "sites are placed in the order in which tokens pass them",
                "sort the recipe's keep-tokens steps by site",
            )

    def _placed(self, model: ExportedModel) -> bool:
        """Whether this very step has been done."""
        site, keep = self.site, self.options.keep
        return any((s.layer, s.tokens) == (site.depth, keep) for s in model.contract.sites) and (
            site.kind == "llm"
        )

    def _check_target(self) -> None:
        method, form = self.method, self.form
        why = why_not(form, method.greedy, method.lowering, self.options.keep)
        if why:
            near = find_method(method.stand_in).name if method.stand_in else "stride"
            raise UsageFault(
                "EV231",
                f"method {method.name} on a {form.name} target",
                f"{why}; the nearest that runs there is {near}",
                f"edgevlm compile ... --prune {near}",
            )

    def _count(self, model: ExportedModel) -> int:
        contract = model.contract
        if self.site.kind == "llm":
            return contract.given_at(min(self.site.depth, contract.layers - 1))
        return contract.given_tokens

    def run(self, model: ExportedModel) -> PassResult:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        keep, count = self.options.keep, self._count(model)
        left = count
        if self.site.kind == "connector-out":
            left = model.contract.kept_image_tokens
        if keep == left or self._placed(model):
            why = f"{keep} of {model.contract.image_tokens} tokens are kept already"
            return PassResult(model, False, (Note("skipped", str(self.site), why),))
        self.method.calibration = self.calibration
        request = Request(model, self.site, self.method, keep, self.form, self.options.position)
        placed = PLACES[self.site.kind](request)
        for role, part in placed.parts.items():
            if part is not model.parts[role]:  # a clone of ours: taps that nothing came to need
                RemoveUnusedNodesPass()(part)
        return PassResult(placed, True, tuple(request.notes))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """Exactly K image tokens are behind the site, and the contract says so."""
        contract, keep = after.contract, self.options.keep
        match self.site.kind:
            case "llm":
                found = contract.tokens_at(self.site.depth)
            case "connector-out":
                found = int(after.parts["connector"].graph.outputs[0].shape[1])
            case _:
                index = next(
                    v for v in after.parts["vision"].graph.outputs if v.name == "image_index"
                )
                found = int(index.shape[0])
        if found != keep:
            raise JobFault(
                "EV501",
                f"keep-tokens missed its budget at {self.site}",
                f"{found} tokens are behind it, {keep} were asked for",
                "please report this",
            )


assert "dart" in METHODS  # the default of `method`
