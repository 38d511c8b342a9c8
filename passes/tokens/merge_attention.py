"""Merge rows inside attention, head by head, and copy the outcome back (HTTM, CVPR 2026).

    before: q, k, v [H,L,d] -> Attention -> [H,L,d]
    after:  q -> match, merge [H,Q,d] -.
            k -> match, merge [H,K,d] --> Attention (+ log size of a key) [H,Q,d] -> copies [H,L,d]
            v -> as k         [H,K,d] -'

    blocks    runs of at most `block` rows; D evenly spread rows of each are targets, the others
              sources; class and register rows, and what no block of equal size holds, never merge
    match     of each head: a source with the target of largest cosine in its block
    merge     the r most alike sources of a block go into the mean; v goes as k goes
    back      of each head the queries furthest from their mean stand alone again
    restore   every row gets what attention gave the row it is in: outside nothing has changed

Equal rows merge without a trace as long as keys count (`proportional`). Evidence N, and (R) where
its note is silent: no public code was found. 90 % of the queries and 70 % of the keys merge, 25 %
are targets, 10 % of the queries return: the paper's. (R): where more merge than 75 %, targets are
all that is left; which rows are targets; log(size) on keys; that only merged sources return. The
paper takes outliers over all heads together; here each head returns as many, since a static
attention has as many rows in all heads. Its blocks run over 30 frames; here is one picture. Keys
that are rotated by position are matched as they are. Sizes that merging in front of it told (ToMe)
are weights. Refuses causal attention, windows, masks and caches; an attention that computes one row
only has nothing to save. Class B. Expected effect: attention's work falls with (1 - queries + back)
x (1 - keys), its time only where rows are many; what is alike is attended as one.
"""

from __future__ import annotations

from typing import Annotated

from onnx_ir.passes.common import RemoveUnusedNodesPass
from pydantic import Field

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.tokens.attention_sites import AttentionSite, attention_sites, refused
from edgevlm.passes.tokens.forms import find_form, why_not
from edgevlm.passes.tokens.merged_attention import merged_attention
from edgevlm.passes.tokens.pieces.block_plan import BlockPlan, plan_blocks

__all__ = ["MergeAttention"]

PREFIX = "merge_attention"
MARK = "edgevlm.merge-attention"  # in a merged node's metadata: with which options


class MergeAttentionOptions(PassOptions):
    queries: float = Field(0.9, ge=0, lt=1, description="share of a block's queries that merge")
    keys: float = Field(0.7, ge=0, lt=1, description="share of a block's keys and values that do")
    back: float = Field(0.1, ge=0, lt=1, description="share of all queries that return, a head")
    targets: float = Field(0.25, gt=0, lt=1, description="share of a block that others go into")
    block: int = Field(128, ge=2, description="rows at most among which partners are looked for")
    proportional: bool = Field(True, description="log(size) on a merged key's logits")
    blocks: Annotated[tuple[int, ...], Field(strict=False)] = Field(
        (), description="blocks of the encoder, 0 is the first; none named: wherever it can"
    )
    form: str = Field("ort", description="how selectors are written; the target chooses it")


class MergeAttention(Pass):
    name = "merge-attention"
    summary = "merge queries and keys inside the encoder's attention, head by head"
    effect = Effect.STRUCTURAL
    after = (
        "fold-constants",
        "fuse-attention",
        "merge-duplicates",
        "drop-zero-masks",
        "gather-early",
        "resize-image",
        "keep-tokens",
    )
    Options = MergeAttentionOptions

    def __init__(self, /, **options: object) -> None:
        super().__init__(**options)
        self.form = find_form(self.options.form)
        self.mark = self.options.model_dump_json(exclude={"blocks"})

    def requires(self, model: ExportedModel) -> None:
        sites = self._sites(model)
        for site in sites:
            self._check_mark(site)
            if site.why_not and self.options.blocks and MARK not in site.node.metadata_props:
                raise refused(f"block {site.index}, {site.node.name}", site.why_not)
        if all(site.why_not and MARK not in site.node.metadata_props for site in sites):
            raise refused("this vision part", f"{sites[0].node.name}: {sites[0].why_not}")
        plans = [plan for site in sites for plan in self._plans(site) if plan is not None]
        largest = max((max(plan.alone, plan.back) for plan in plans), default=0)
        why = why_not(self.form, False, "B", largest)
        if why:
            raise UsageFault(
                "EV231",
                f"merge-attention on a {self.form.name} target",
                f"{why}, and {largest} rows are chosen at once here",
                "name fewer blocks in the recipe, or leave merge-attention out",
            )

    def run(self, model: ExportedModel) -> PassResult:
        part, o = model.parts["vision"].clone(), self.options
        build, notes, changed = GraphBuilder(part, PREFIX), [], False
        for site in self._sites(model.with_parts(vision=part)):
            queries, keys = self._plans(site)
            if queries is None and keys is None:
                why = site.why_not or "so small a share of its blocks is no row"
                notes.append(Note("skipped", str(site.node.name), why))
                continue
            node = merged_attention(build, self.form, site.node, queries, keys, o.proportional)
            node.metadata_props[MARK] = self.mark
            changed = True
            left = [site.rows if plan is None else plan.left for plan in (queries, keys)]
            why = f"{left[0]} queries and {left[1]} keys of {site.rows} rows in every head"
            notes.append(Note("matched", str(site.node.name), why))
        if not changed:
            return PassResult(model, False, tuple(notes))
        build.finish()
        RemoveUnusedNodesPass()(part)
        return PassResult(model.with_parts(vision=part), True, tuple(notes))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """Every attention has exactly the rows that were planned; what leaves is shaped as ever."""
        old, new = (model.parts["vision"].graph for model in (before, after))
        if [tuple(v.shape) for v in old.outputs] != [tuple(v.shape) for v in new.outputs]:
            raise _missed("an output of the vision part has another shape")
        planned = {site.index: site for site in self._sites(before)}
        for site in self._sites(after):
            plans = self._plans(planned[site.index])
            rows = [int(site.node.inputs[i].shape[-2]) for i in range(2)]
            for plan, found in zip(plans, rows, strict=True):
                if plan is not None and plan.left != found:
                    raise _missed(f"{site.node.name} has {found} rows, {plan.left} were planned")

    # -- inside ----------------------------------------------------------------------------------
    def _sites(self, model: ExportedModel) -> list[AttentionSite]:
        """Those of the blocks asked for."""
        sites, asked = attention_sites(model, MARK), self.options.blocks
        if any(not 0 <= index < len(sites) for index in asked):
            raise UsageFault(
                "EV209",
                f"merge-attention in blocks {', '.join(map(str, asked))}",
                f"this vision part has blocks 0 to {len(sites) - 1}",
                "leave blocks out of the recipe: then it merges wherever it can",
            )
        return [site for site in sites if not asked or site.index in asked]

    def _plans(self, site: AttentionSite) -> tuple[BlockPlan | None, BlockPlan | None]:
        """Of queries and of keys; None where no row would go."""
        o = self.options
        sides = ((o.queries, o.back), (o.keys, 0.0)) if not site.why_not else ()
        plans = [
            plan_blocks(
                site.rows, site.start, site.count,
                block=o.block, share=share, targets=o.targets, back=back,
            )
            for share, back in sides
        ]  # fmt: skip
        queries, keys = [p if p.left < p.rows else None for p in plans] or (None, None)
        return queries, keys

    def _check_mark(self, site: AttentionSite) -> None:
        mark = site.node.metadata_props.get(MARK, self.mark)
        if mark != self.mark:
            raise UsageFault(
                "EV205",
                f"merge-attention comes twice, and {site.node.name} is merged already",
                f"with other options: {mark}",
                "one merge-attention step for each block in the recipe",
            )


def _missed(why: str) -> JobFault:
    return JobFault("EV501", "merge-attention missed its budget", why, "please report this")
