"""Which rows of the encoder's stream are the image's: those behind class and register tokens.

    vision      stream [class | N patches] ... image_features [class | N] or [N]
    connector   image_features -> image_embeds [N]

Found by axes, never by counting alone: the rows of the features that the connector makes tokens of
are rows of the stream, or they are not, because they were mixed or have left in between.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import analyse, size_of
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.sites import Site

__all__ = ["rows_in_front"]


def rows_in_front(model: ExportedModel, site: Site, part: ir.Model, stream: ir.Value) -> int:
    """Rows of `stream` [1,L,D], of the vision part, in front of the image tokens.

    Raises EV205 where a deeper site is placed already, EV230 where tokens are no rows there.
    """
    contract = model.contract
    rows, count = int(stream.shape[1]), contract.given_tokens
    if contract.kind != "vlm":
        whole = contract.image_tokens if contract.kind == "dense" else count
        first = contract.vision_tokens - whole
        if rows == first + count:
            return first
        raise _lost(
            model, site, f"the stream has {rows} rows there, the picture {count} tokens", "vision:1"
        )
    at = _of_the_connector(model, site)
    axes = analyse(part.graph, contract.signature("vision"))
    out, here = (parts_of(axes.of(v)[1]) for v in (part.graph.outputs[0], stream))
    starts = np.cumsum([0, *map(size_of, out)]).tolist()
    image = [expand(p) for p, s in zip(out, starts, strict=False) if at <= s < at + count]
    for place in range(len(here)):
        if [expand(p) for p in here[place : place + len(image)]] == image:
            return sum(map(size_of, here[:place]))
    raise _lost(model, site, "what the encoder gives are no rows of the stream there")


def _of_the_connector(model: ExportedModel, site: Site) -> int:
    """Rows in front of the image tokens in what the connector reads."""
    graph, count = model.parts["connector"].graph, model.contract.given_tokens
    axes = analyse(graph, model.contract.signature("connector"))
    given = axes.of(graph.inputs[0])[1]
    wanted = expand(axes.of(graph.outputs[0])[1])
    at = 0
    for part in parts_of(given):
        if expand(part) == wanted and size_of(part) == count:
            return at
        at += size_of(part)
    raise _mixed(
        site,
        f"the connector makes {count} tokens of {size_of(given)}: it joins neighbours (a pixel "
        "shuffle), so a score here is not a score of an image token",
    )


def _lost(
    model: ExportedModel, site: Site, why: str, instead: str = "connector-out, or llm:L"
) -> UsageFault:
    if model.contract.vision_kept is None:
        return _mixed(site, why, instead)
    return UsageFault(
        "EV205",
        f"{site} comes behind a deeper site in the recipe",
        "sites are placed in the order in which tokens pass them",
        "sort the recipe's keep-tokens steps by site",
    )


def _mixed(site: Site, why: str, instead: str = "connector-out, or llm:L") -> UsageFault:
    return UsageFault(
        "EV230",
        f"{site}: tokens cannot leave there",
        why,
        f"edgevlm compile ... --prune-at {instead}",
    )
