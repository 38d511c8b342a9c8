"""vision:B and vision-out: inside the vision encoder, or at its end.

    before: [class | N patches] -> block B ... -> image_features [1,1+N,W]
    after:  ... -> choose -> [class | K] -> block B ... -> image_features [1,1+K,W], image_index [K]

Everything behind follows: connector, prefill and decode of a VLM; the head of a classifier. A dense
model needs the whole grid again: behind the last block, rows that left come back as they were, or,
where a method says which token each was merged into (`Choice.owner`), as copies of that. Where it
says how many a merged token stands for (`Choice.sizes`), attention behind is told (key_bias.py).
A method whose `stream` is "middle" works inside block B, between attention and MLP.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.shorten import Places, Region, shorten
from edgevlm.compiler.blocks import Block, find_blocks
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.key_bias import lean
from edgevlm.passes.tokens.placing.in_front import rows_in_front
from edgevlm.passes.tokens.placing.request import Request, as_output, builder, chosen, follow
from edgevlm.passes.tokens.sites import list_sites
from edgevlm.passes.tokens.view import Choice
from edgevlm.passes.tokens.vision_view import VisionView

__all__ = ["place_in_vision"]

INDEX = "image_index"


def place_in_vision(request: Request) -> ExportedModel:
    """Raises EV205 (out of order), EV209 (no such block), EV230 (neighbours are mixed)."""
    model, contract = request.model, request.model.contract
    part = model.parts["vision"].clone()
    graph, blocks = part.graph, find_blocks(part.graph)
    count, keep = contract.given_tokens, request.keep
    stream = _stream(request, graph, blocks)
    first = rows_in_front(model, request.site, part, stream)
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
    rows = _rows(build, first, choice.index)
    content = _content(build, stream, first, choice)
    if at_end:
        short = content or build("Gather", stream, rows, axis=1)
        short.dtype = stream.dtype
        as_output(graph, stream, short, "image_features")
    else:
        places = Places(first + count, first + keep, first)
        copies = None if choice.owner is None else _rows(build, first, choice.owner)
        short, log = shorten(region, build, rows, places, content, copies)
        request.note("matched", "vision", f"{len(log)} constants follow the token axis")
        _tell_sizes(build, region, short, first, choice)
    _index(build, known, choice)
    build.finish()
    request.note("matched", "vision", f"{keep} of {count} at {request.site}")
    update: dict[str, object] = {"vision_kept": keep, "kept_image_tokens": keep}
    if contract.kind != "dense":
        update["vision_tokens"] = contract.vision_tokens - (count - keep)
    if contract.kind != "vlm":
        return model.with_parts(contract.model_copy(update=update), vision=part)
    update |= {
        "kv_capacity": contract.kv_capacity - (count - keep),
        "image_positions": request.image_positions,
    }
    pruned = contract.model_copy(update=update)
    connector = _connector(model, keep)
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
        if not middle:
            return block.entry
        if block.middle is not None:
            return block.middle
        raise UsageFault(
            "EV230",
            f"method {request.method.name} at {site}",
            "it works between attention and MLP, and this block adds both to its stream at once",
            "edgevlm compile ... --prune with another method, such as dart",
        )
    last = contract.kind == "vlm" and blocks and not middle
    if site.kind == "vision" and site.depth == len(blocks) and last:
        return graph.outputs[0]
    known = list_sites(contract, len(blocks) - (not last) if blocks else None)
    raise UsageFault(
        "EV209",
        f"{site} of this {contract.kind}",
        f"its vision part has {len(blocks)} blocks; sites are {', '.join(known) or 'none'}",
        "edgevlm compile ... --prune-at vision:1",
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


def _rows(build: GraphBuilder, first: int, places: ir.Value) -> ir.Value:
    """Places among the image tokens as rows of the stream, behind those of the first rows."""
    rows = build("Add", places, build.const([first]))
    return build("Concat", build.const(np.arange(first)), rows, axis=0) if first else rows


def _content(build: GraphBuilder, stream: ir.Value, first: int, choice: Choice) -> ir.Value | None:
    if choice.content is None:
        return None
    merged = build("Unsqueeze", choice.content, build.const([0]))
    if not first:
        return merged
    lead = build("Slice", stream, build.const([0]), build.const([first]), build.const([1]))
    return build("Concat", lead, merged, axis=1)


def _tell_sizes(
    build: GraphBuilder, region: Region, short: ir.Value, first: int, choice: Choice
) -> None:
    """Attention over the shortened stream counts merged tokens as many."""
    if choice.sizes is None:
        return
    axes = analyse(build.graph)
    rows = expand(axes.of(short)[1])
    nodes = [n for n in build.graph if n in region.nodes and n.op_type == "Attention"]
    nodes = [n for n in nodes if expand(axes.of(n.inputs[1])[-2]) == rows]
    sizes = choice.sizes
    if first:
        sizes = build("Concat", build.const(np.ones(first), np.float32), sizes, axis=0)
    lean(build, nodes, sizes, int(short.shape[1]))


def _index(build: GraphBuilder, known: ir.Value | None, choice: Choice) -> None:
    """image_index: places in the whole grid, also behind several sites."""
    if known is None:
        index = build("Identity", choice.index)
    else:
        known.name = f"{INDEX}/{known.shape[0]}"
        index = build("Gather", known, choice.index, axis=0)
    index.dtype = ir.DataType.INT64
    as_output(build.graph, known, index, INDEX)


def _connector(model: ExportedModel, keep: int) -> ir.Model:
    """The connector of the tokens that are left, class token included."""
    contract = model.contract
    part = model.parts["connector"].clone()
    axes = analyse(part.graph, contract.signature("connector"))
    resize(axes, axes.of(part.graph.outputs[0])[1], keep)
    return part
