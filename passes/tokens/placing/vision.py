"""vision:B and vision-out: inside the vision encoder, or at its end.

    before: [class | N patches] -> block B ... -> image_features [1,1+N,W]
    after:  ... -> choose -> [class | K] -> block B ... -> image_features [1,1+K,W], image_index [K]

Everything behind follows: connector, prefill and decode of a VLM; the head of a classifier. A dense
model needs the whole grid again, so rows that left come back behind the last block as they were.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import analyse, resize, size_of
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.shorten import Places, Region, shorten
from edgevlm.compiler.blocks import Block, find_blocks
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.placing.request import Request, as_output, builder, chosen, follow
from edgevlm.passes.tokens.sites import list_sites
from edgevlm.passes.tokens.view import Choice
from edgevlm.passes.tokens.vision_view import VisionView

__all__ = ["place_in_vision"]

INDEX = "image_index"


def place_in_vision(request: Request) -> ExportedModel:
    """Raises EV209 (no such block), EV230 (a connector that mixes neighbours)."""
    model, contract = request.model, request.model.contract
    part = model.parts["vision"].clone()
    graph, blocks = part.graph, find_blocks(part.graph)
    count, keep = contract.given_tokens, request.keep
    stream = _stream(request, graph, blocks)
    first = _first(request, int(stream.shape[1]), count)
    at_end = stream in graph.outputs
    region = Region(
        part,
        contract.signature("vision"),
        stream,
        until=blocks[-1].exit if contract.kind == "dense" else None,
    )
    build = builder(part)
    known = next((v for v in graph.outputs if v.name == INDEX), None)
    choice = _choose(request, build, stream, blocks, first, known)
    rows = build("Add", choice.index, build.const([first]))
    if first:
        rows = build("Concat", build.const(np.arange(first)), rows, axis=0)
    content = _content(build, stream, first, choice)
    if at_end:
        short = content or build("Gather", stream, rows, axis=1)
        short.dtype = stream.dtype
        as_output(graph, stream, short, "image_features")
    else:
        places = Places(first + count, first + keep, first)
        _, log = shorten(region, build, rows, places, content)
        request.note("matched", "vision", f"{len(log)} constants follow the token axis")
    _index(build, known, choice)
    build.finish()
    request.note("matched", "vision", f"{keep} of {count} at {request.site}")
    update: dict[str, object] = {"vision_kept": keep}
    if contract.kind != "dense":
        update["vision_tokens"] = first + keep
    if contract.kind != "vlm":
        return model.with_parts(contract.model_copy(update=update), vision=part)
    update |= {
        "kept_image_tokens": keep,
        "kv_capacity": contract.kv_capacity - (count - keep),
        "image_positions": request.image_positions,
    }
    pruned = contract.model_copy(update=update)
    connector = _connector(model, first, keep)
    language, notes = follow(model, pruned)
    request.notes += notes
    return model.with_parts(pruned, vision=part, connector=connector, **language)


def _stream(request: Request, graph: ir.Graph, blocks: list[Block]) -> ir.Value:
    contract, site = request.model.contract, request.site
    if site.kind == "vision-out" and contract.kind == "vlm":
        return graph.outputs[0]
    middle = request.method.stream == "middle"
    if site.kind == "vision" and site.depth < len(blocks):
        block = blocks[site.depth]
        stream = block.middle if middle else block.entry
        if stream is not None:
            return stream
    if site.kind == "vision" and site.depth == len(blocks) and contract.kind == "vlm" and blocks:
        return graph.outputs[0]
    known = list_sites(contract, len(blocks) - (contract.kind != "vlm") if blocks else None)
    raise UsageFault(
        "EV209",
        f"{site} of this {contract.kind}",
        f"its vision part has {len(blocks)} blocks; sites are {', '.join(known) or 'none'}",
        "edgevlm compile ... --prune-at vision:1",
    )


def _first(request: Request, rows: int, count: int) -> int:
    """Rows in front of the patches: class and register tokens."""
    model = request.model
    if model.contract.kind != "vlm":
        if rows < count:
            raise _mixed(request, f"the stream has {rows} rows there, the picture {count} tokens")
        return rows - count
    connector = model.parts["connector"].graph
    axes = analyse(connector, model.contract.signature("connector"))
    given = axes.of(connector.inputs[0])[1]
    wanted = expand(axes.of(connector.outputs[0])[1])
    at = 0
    for part in parts_of(given):
        if expand(part) == wanted and size_of(part) == count:
            return at + rows - size_of(given)
        at += size_of(part)
    raise _mixed(
        request,
        f"the connector makes {count} tokens of {size_of(given)}: it joins neighbours (a pixel "
        "shuffle), so a score here is not a score of an image token",
    )


def _mixed(request: Request, why: str) -> UsageFault:
    return UsageFault(
        "EV230",
        f"{request.site}: tokens cannot leave there",
        why,
        "edgevlm compile ... --prune-at connector-out, or llm:L",
    )


def _choose(
    request: Request,
    build: GraphBuilder,
    stream: ir.Value,
    blocks: list[Block],
    first: int,
    known: ir.Value | None,
) -> Choice:
    contract = request.model.contract
    if int(stream.shape[1]) != first + contract.given_tokens:
        raise UsageFault(
            "EV205",
            f"{request.site} comes behind a deeper site in the recipe",
            "sites are placed in the order in which tokens pass them",
            "sort the recipe's keep-tokens steps by site",
        )
    depth = len(blocks) if request.site.kind == "vision-out" else request.site.depth
    view = VisionView(
        build=build,
        site=request.site,
        model=request.model,
        form=request.form,
        method=request.method.name,
        keep=request.keep,
        count=contract.given_tokens,
        tokens=None,
        width=int(stream.shape[2]),
        places=known,
        stream=stream,
        blocks=blocks,
        # between attention and MLP the block's own attention is the last one
        depth=depth + (request.method.stream == "middle"),
        first=first,
    )
    view.tokens = view.hidden()
    return chosen(request, view)


def _content(build: GraphBuilder, stream: ir.Value, first: int, choice: Choice) -> ir.Value | None:
    if choice.content is None:
        return None
    merged = build("Unsqueeze", choice.content, build.const([0]))
    if not first:
        return merged
    lead = build("Slice", stream, build.const([0]), build.const([first]), build.const([1]))
    return build("Concat", lead, merged, axis=1)


def _index(build: GraphBuilder, known: ir.Value | None, choice: Choice) -> None:
    """image_index: places in the whole grid, also behind several sites."""
    if known is None:
        index = build("Identity", choice.index)
    else:
        known.name = f"{INDEX}/before"
        index = build("Gather", known, choice.index, axis=0)
    index.dtype = ir.DataType.INT64
    as_output(build.graph, known, index, INDEX)


def _connector(model: ExportedModel, first: int, keep: int) -> ir.Model:
    """The connector of the tokens that are left, class token included."""
    contract: Contract = model.contract
    part = model.parts["connector"].clone()
    axes = analyse(part.graph, contract.signature("connector"))
    resize(axes, axes.of(part.graph.outputs[0])[1], keep)
    return part
