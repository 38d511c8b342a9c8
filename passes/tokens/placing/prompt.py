"""llm:L: in front of a decoder layer.

    before: [words | N image tokens | words] -> layer L ...      every layer caches N + T rows
    after:  ... -> choose -> [words | K | words] -> layer L ...  from L on a layer caches K + T rows

Prefill becomes segments of static length; decode gets a cache and a mask of each length. Where the
image begins is known at run time (`image_start`), so one graph serves every prompt. The row that is
read is the prompt's last one that is left. With tokens that return, a prompt must end in a word:
without one, whether its last row took part in the last layer would depend on the choice.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.shorten import Places, Region, shorten
from edgevlm.compiler.blocks import Block, find_blocks
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Contract, LayerSite
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.placing.caches import drop_unused, shorten_caches
from edgevlm.passes.tokens.placing.request import Request, builder, chosen
from edgevlm.passes.tokens.prompt_view import PromptView
from edgevlm.passes.tokens.view import Choice

__all__ = ["place_in_prompt"]


def place_in_prompt(request: Request) -> ExportedModel:
    """Raises EV203 (a schedule that grows tokens), EV209 (no such layer)."""
    model, contract, depth = request.model, request.model.contract, request.site.depth
    part = model.parts["prefill"].clone()
    blocks = _blocks(part, contract)
    _check_order(request, contract)
    count, keep = contract.given_at(depth), request.keep
    returns = request.method.restore == "skip-scatter"
    stream = blocks[depth].entry
    region = Region(
        part,
        contract.signature("prefill"),
        stream,
        until=blocks[depth].exit if returns else None,
        indices=("last_index",),
    )
    build = builder(part)
    start = _image_start(part)
    choice = _choose(request, build, stream, blocks, start, count) if keep else None
    rows = _rows(build, start, choice, count, keep, contract.prompt_capacity)
    places = Places(count + contract.prompt_capacity, keep + contract.prompt_capacity)
    content = _content(build, contract, stream, rows, choice, start, places)
    _, log = shorten(region, build, rows, places, content)
    if choice is not None:
        index = build("Identity", choice.index)
        index.name, index.dtype = f"image_index_{depth}", ir.DataType.INT64
        part.graph.outputs.append(index)
    drop_unused(part.graph)
    build.finish()
    request.note("matched", "prefill", f"{keep} of {count} in front of layer {depth}")
    request.note("matched", "prefill", f"{len(log)} constants follow the token axis")
    pruned = _contract(contract, LayerSite(layer=depth, given=count, tokens=keep, returns=returns))
    decode = shorten_caches(request, pruned)
    return model.with_parts(pruned, prefill=part, decode=decode)


def _blocks(part: ir.Model, contract: Contract) -> list[Block]:
    blocks = find_blocks(part.graph)
    if len(blocks) != contract.layers:
        raise JobFault(
            "EV230",
            f"prefill has {contract.layers} layers, {len(blocks)} of them with a residual stream",
            "a site inside the language model needs the stream between its layers",
            "edgevlm compile ... --prune-at connector-out",
        )
    return blocks


def _check_order(request: Request, contract: Contract) -> None:
    depth, placed = request.site.depth, contract.sites
    if depth >= contract.layers:
        raise UsageFault(
            "EV209",
            f"{request.site} of a model with {contract.layers} layers",
            f"sites in the language model are llm:0 to llm:{contract.layers - 1}",
            f"edgevlm compile ... --prune-at llm:{contract.layers // 2}",
        )
    if placed and placed[-1].layer >= depth:
        raise UsageFault(
            "EV205",
            f"{request.site} comes behind llm:{placed[-1].layer} in the recipe",
            "sites are placed in the order in which tokens pass them, one at a place",
            "sort the recipe's keep-tokens steps by site",
        )


def _image_start(part: ir.Model) -> ir.Value:
    """The graph input `image_start` [1]; made where it is not there yet."""
    graph = part.graph
    for value in graph.inputs:
        if value.name == "image_start":
            return value
    start = ir.Value(name="image_start", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(start)
    return start


def _choose(
    request: Request,
    build: GraphBuilder,
    stream: ir.Value,
    blocks: list[Block],
    start: ir.Value,
    count: int,
) -> Choice:
    contract = request.model.contract
    last = next(v for v in build.graph.inputs if v.name == "last_index")
    gone = contract.kept_image_tokens - count
    view = PromptView(
        build=build,
        site=request.site,
        model=request.model,
        form=request.form,
        method=request.method.name,
        keep=request.keep,
        count=count,
        tokens=None,
        width=contract.width,
        places=_places(build, contract, start, count),
        stream=stream,
        blocks=blocks,
        depth=request.site.depth,
        start=start,
        last=build("Sub", last, build.const([gone])) if gone else last,
    )
    view.tokens = view.hidden()
    return chosen(request, view)


def _places(
    build: GraphBuilder, contract: Contract, start: ir.Value, count: int
) -> ir.Value | None:
    """Where in the whole grid the image tokens at the site lie, int64 [count].

    Earlier sites of this part say which they kept; of what left in another part, positions tell.
    None where all tokens are still here, or where nothing tells.
    """
    if count == contract.image_tokens or contract.image_positions == "renumber":
        return None
    places = build.const(np.arange(contract.kept_image_tokens))
    outputs = {str(value.name): value for value in build.graph.outputs}
    for site in contract.sites:
        if not site.returns:
            places = build("Gather", places, outputs[f"image_index_{site.layer}"], axis=0)
    if contract.kept_image_tokens == contract.image_tokens:
        return places
    positions = next(v for v in build.graph.inputs if v.name == "position_ids")
    flat = build("Reshape", positions, build.const([contract.prefill_length]))
    rows = build("Gather", flat, build("Add", start, places), axis=0)
    return build("Sub", rows, start)  # the words in front take up one position each


def _rows(
    build: GraphBuilder, start: ir.Value, choice: Choice | None, count: int, keep: int, text: int
) -> ir.Value:
    """Rows of the stream that stay, int64 [K + T], ascending whatever the start."""
    row = build.const(np.arange(keep + text))
    behind = build("Add", row, build.const([count - keep]))
    if choice is None:
        return build("Where", build("Less", row, start), row, behind)
    place = build("Sub", row, start)
    inside = build("Clip", place, build.const(0), build.const(keep - 1))
    image = build("Add", start, build("Gather", choice.index, inside, axis=0))
    is_image = build("Less", place, build.const([keep]))
    late = build("Where", is_image, image, behind)
    return build("Where", build("Less", row, start), row, late)


def _content(
    build: GraphBuilder,
    contract: Contract,
    stream: ir.Value,
    rows: ir.Value,
    choice: Choice | None,
    start: ir.Value,
    places: Places,
) -> ir.Value | None:
    """[1,K+T,D] with the merged tokens in the image's rows; None where nothing was merged."""
    if choice is None or choice.content is None:
        return None
    keep = places.kept - contract.prompt_capacity
    merged = build("Reshape", choice.content, build.const([1, keep, contract.width]))
    place = build("Sub", build.const(np.arange(places.kept)), start)
    inside = build(
        "And",
        build("GreaterOrEqual", place, build.const([0])),
        build("Less", place, build.const([keep])),
    )
    lying = build("Where", inside, build("Add", place, build.const([places.rows])), rows)
    return build("Gather", build("Concat", stream, merged, axis=1), lying, axis=1)


def _contract(contract: Contract, site: LayerSite) -> Contract:
    tokens = [contract.tokens_at(layer) for layer in range(contract.layers)]
    last = site.layer + 1 if site.returns else contract.layers
    tokens[site.layer : last] = [site.tokens] * (last - site.layer)
    return contract.model_copy(
        update={"sites": (*contract.sites, site), "layer_tokens": tuple(tokens)}
    )
