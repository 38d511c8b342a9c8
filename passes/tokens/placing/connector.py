"""connector-out: between connector and language model.

before: connector -> image_embeds [1,N,D]
after:  connector -> choose -> [1,K,D], image_index [K]; prefill and decode shorter by N - K
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.connector_view import ConnectorView
from edgevlm.passes.tokens.placing.request import Request, as_output, builder, chosen, follow

__all__ = ["place_at_connector"]


def place_at_connector(request: Request) -> ExportedModel:
    """Raises EV203 where the connector drops tokens already."""
    model, contract, keep = request.model, request.model.contract, request.keep
    count = contract.given_tokens
    if contract.kept_image_tokens != count:
        raise UsageFault(
            "EV203",
            f"connector-out of a model pruned to {contract.kept_image_tokens} tokens there",
            "a second choice would look at the first one's leavings",
            "prune at llm:L instead, or compile from the unpruned source",
        )
    part = model.parts["connector"].clone()
    build, embeds = builder(part), part.graph.outputs[0]
    view = ConnectorView(
        build=build,
        site=request.site,
        model=model,
        form=request.form,
        method=request.method.name,
        keep=keep,
        count=count,
        tokens=build("Reshape", embeds, build.const([count, contract.width])),
        width=contract.width,
        embeds=embeds,
    )
    choice = chosen(request, view)
    if choice.content is None:
        kept = build("Gather", embeds, choice.index, axis=1)
    else:
        kept = build("Reshape", choice.content, build.const([1, keep, contract.width]))
    kept.dtype = embeds.dtype
    index = build("Identity", choice.index)
    index.dtype = ir.DataType.INT64
    as_output(part.graph, embeds, kept, "image_embeds")
    as_output(part.graph, None, index, "image_index")
    build.finish()
    request.note("matched", "connector", f"{keep} of {count} by {request.method.name}")
    gone = count - keep
    pruned = contract.model_copy(
        update={
            "kept_image_tokens": keep,
            "kv_capacity": contract.kv_capacity - gone,
            "image_positions": request.image_positions,
        }
    )
    language, notes = follow(model, pruned)
    request.notes += notes
    return model.with_parts(pruned, connector=part, **language)
