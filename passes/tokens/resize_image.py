"""Shrink the picture, so that the encoder itself makes about K tokens: the baseline papers omit.

    before: picture [3,H,W] -> R x C patches -> encoder -> N = R x C tokens -> everything behind
    after:  picture [3,h,w] -> r x c patches -> encoder -> r x c <= K tokens -> everything behind

r x c is the grid of at most K tokens whose shape is nearest to R x C, so the budget may stay below
K; the record says the real count. The encoder's work shrinks as well, which no selector behind it
can say. Position tables are resampled as transformers does it for smaller pictures (`bicubic.py`);
the processor makes smaller pictures from then on. `original`: a token stands for the place in the
R x C grid nearest to its own, so that words keep their positions (`image_index` is a constant of
the vision part); `renumber`: an ordinary model with a smaller grid. Assumes that rows and columns
of the picture are cut into patches side by side. Refuses windows that overlap, attention in windows
(pinned sizes), processors that only crop, and a picture of tokens that have left already. Expected
effect: encoder, prefill and KV bytes fall with the tokens; small things can no longer be seen.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.beside import Processor
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.tokens.bicubic import bicubic
from edgevlm.passes.tokens.placing.request import follow

__all__ = ["ResizeImage", "choose_grid"]

Grid = tuple[int, int]


class ResizeImageOptions(PassOptions):
    tokens: int = Field(description="image tokens at most, 1..N")
    position: Literal["original", "renumber"] = Field(
        "original", description="positions of the tokens: of the nearest place, or 0, 1, 2, ..."
    )


def choose_grid(whole: Grid, most: int, same_shape: bool = False) -> Grid | None:
    """Rows x columns <= `most` nearest in shape to `whole`, of those the one with most tokens.

    Only grids are looked at that one row or column more would make too large. same_shape: in the
    very proportion; None where there is no such grid.
    """
    rows, columns = whole
    most = min(most, rows * columns)
    found = {(r, min(columns, most // r)) for r in range(1, min(rows, most) + 1)}
    found |= {(min(rows, most // c), c) for c in range(1, min(columns, most) + 1)}
    if same_shape:
        found = {(r, r * columns // rows) for r, _ in found if r * columns % rows == 0}
        found = {(r, c) for r, c in found if c and r * c <= most}
    nearness = {g: abs(math.log(g[0] * columns / (g[1] * rows))) for g in found}
    return min(found, key=lambda g: (round(nearness[g], 9), -g[0] * g[1], g), default=None)


class ResizeImage(Pass):
    name = "resize-image"
    summary = "shrink the picture until the encoder itself makes at most K tokens"
    effect = Effect.STRUCTURAL
    after = ("fold-constants", "merge-duplicates", "drop-zero-masks")
    Options = ResizeImageOptions

    def requires(self, model: ExportedModel) -> None:
        contract, most = model.contract, self.options.tokens
        if contract.kind == "dense":
            raise _refuse(contract.kind, "its map has the size of the picture")
        if contract.kept_image_tokens < contract.image_tokens or contract.sites:
            raise UsageFault(
                "EV205",
                "resize-image comes behind a step that dropped tokens",
                "the picture is what everything begins with",
                "put resize-image in front of keep-tokens",
            )
        if not 1 <= most <= contract.image_tokens:
            raise UsageFault(
                "EV203",
                f"a budget of {most} image tokens",
                f"this model has {contract.image_tokens}; the budget is 1 to "
                f"{contract.image_tokens}",
                f"edgevlm compile ... --tokens {max(1, contract.image_tokens // 2)}",
            )
        if not model.processor.image.get("do_resize", True):
            raise _refuse("the image processor", "it crops pictures and does not resize them")

    def run(self, model: ExportedModel) -> PassResult:
        contract, most = model.contract, self.options.tokens
        whole = contract.grid
        crops = model.processor.image.get("shortest_edge") is not None
        grid = choose_grid(whole, most, same_shape=crops)
        if grid is None:
            raise _refuse(
                f"a grid of {whole[0]} x {whole[1]} tokens to {most} or fewer",
                "the processor keeps the picture's shape, and no smaller grid has that shape",
            )
        if grid == whole:
            return PassResult(model, False, (Note("skipped", "vision", f"{most} tokens are all"),))
        vision = model.parts["vision"].clone()
        log = _shrink(vision, model, grid)
        pruned = self._contract(contract, vision, grid)
        if contract.kind == "vlm" and self.options.position == "original":
            _name_places(vision, whole, grid)
        parts = {"vision": vision}
        if contract.kind == "vlm":
            parts["connector"] = _connector(model, grid)
            language, _ = follow(model, pruned)
            parts |= language
        high, wide = pruned.image_height, pruned.image_width
        notes = [Note("matched", "vision", f"{len(log)} constants follow rows and columns")]
        notes.append(Note("matched", "vision", f"{grid[0]} x {grid[1]} tokens of {high} x {wide}"))
        if math.prod(grid) < most:
            why = f"{math.prod(grid)} tokens and not {most}: no larger grid is as near in shape"
            notes.append(Note("info", "vision", why))
        made = replace(model, processor=_processor(model.processor, contract, pruned))
        return PassResult(made.with_parts(pruned, **parts), True, tuple(notes))

    def _contract(self, contract: Contract, vision: ir.Model, grid: Grid) -> Contract:
        picture, count = vision.graph.inputs[0], math.prod(grid)
        gone = contract.image_tokens - count
        update: dict[str, object] = {
            "image_height": int(picture.shape[2]),
            "image_width": int(picture.shape[3]),
            "vision_tokens": contract.vision_tokens - gone,
            "kept_image_tokens": count,
        }
        if contract.kind == "vlm":
            update["vision_tokens"] = int(vision.graph.outputs[0].shape[1])
            update["kv_capacity"] = contract.kv_capacity - gone
        if contract.kind == "vlm" and self.options.position == "original":
            update["vision_kept"] = count  # of the N places of the grid, which stays what it is
        else:
            update |= {"image_tokens": count, "grid": grid}
        return contract.model_copy(update=update)

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """What the encoder makes is within the budget, and every part says so."""
        contract = after.contract
        for role, part in after.parts.items():
            for port, value in zip(contract.inputs(role), part.graph.inputs, strict=True):
                if list(port.shape) != list(value.shape):
                    raise _missed(f"{role}: {port.name} is {value.shape}, not {port.shape}")
        if contract.kept_image_tokens > self.options.tokens:
            raise _missed(f"{contract.kept_image_tokens} tokens, {self.options.tokens} asked for")


def _shrink(vision: ir.Model, model: ExportedModel, grid: Grid) -> list[str]:
    """Rows and columns of patches, and everything that follows from them."""
    log: list[str] = []
    for side, (whole, wanted) in enumerate(zip(model.contract.grid, grid, strict=True)):
        if whole == wanted:
            continue
        axes = analyse(vision.graph, model.contract.signature("vision"))
        patches = expand(axes.of(vision.graph.inputs[0])[2 + side])
        if len(patches) < 2 or patches[0].size % whole:
            raise _refuse(
                "the vision part",
                f"its picture is not cut into {whole} {('rows', 'columns')[side]} of patches side "
                "by side",
            )
        size = patches[0].size // whole * wanted
        log += resize(axes, (patches[0],), size, resample=bicubic)
    return log


def _connector(model: ExportedModel, grid: Grid) -> ir.Model:
    """Its tokens are one axis, or (behind a pixel shuffle) rows and columns."""
    part, contract = model.parts["connector"].clone(), model.contract
    for side in range(2):
        axes = analyse(part.graph, contract.signature("connector"))
        atoms = expand(axes.of(part.graph.outputs[0])[1])
        if len(atoms) == 1:
            resize(axes, tuple(atoms), math.prod(grid))
        elif len(atoms) == 2:
            resize(axes, (atoms[side],), grid[side])
        elif atoms:  # one token has no axis
            raise _refuse("the connector", f"its tokens are {atoms}, neither one axis nor a grid")
    return part


def _name_places(vision: ir.Model, whole: Grid, grid: Grid) -> None:
    """One more output, `image_index`: the place of the whole grid that each token is nearest to."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(whole, grid, strict=True)
    )
    build = GraphBuilder(vision, "resize_image")
    places = (rows[:, None] * whole[1] + columns).reshape(-1)
    index = build("Identity", build.const(places))
    index.name, index.dtype = "image_index", ir.DataType.INT64
    vision.graph.outputs.append(index)
    build.finish()


def _processor(processor: Processor, before: Contract, after: Contract) -> Processor:
    """The same pictures, smaller."""
    image = dict(processor.image)
    high, wide = after.image_height, after.image_width
    if image.get("shortest_edge") is not None:
        image["shortest_edge"] = round(image["shortest_edge"] * high / before.image_height)
    if image.get("resize_to") is not None:
        tall, broad = image["resize_to"]
        image["resize_to"] = [
            round(tall * high / before.image_height),
            round(broad * wide / before.image_width),
        ]
    return processor.model_copy(update={"image": image | {"height": high, "width": wide}})


def _refuse(what: str, why: str) -> UsageFault:
    return UsageFault(
        "EV230",
        f"resize-image cannot shrink {what}",
        why,
        "edgevlm compile ... --prune stride, or another method",
    )


def _missed(why: str) -> JobFault:
    return JobFault("EV501", "resize-image broke the contract it wrote", why, "please report this")
