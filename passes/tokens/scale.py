"""The same model with another number of image tokens behind the encoder, for timing.

Connector, prefill and decode are re-shaped by the axis analysis; the vision part stays as it is and
must not be run. What the tokens then mean is nothing: this is for time, not for answers.
"""

from __future__ import annotations

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.placing.request import follow

__all__ = ["scaled"]


def scaled(model: ExportedModel, tokens: int) -> ExportedModel:
    """An unpruned VLM with `tokens` image tokens. Raises EV211 for a connector that mixes them."""
    contract = model.contract
    if tokens == contract.image_tokens:
        return model
    more = tokens - contract.image_tokens
    columns = next(n for n in range(int(tokens**0.5), 0, -1) if tokens % n == 0)
    changed = contract.model_copy(
        update={
            "image_tokens": tokens,
            "kept_image_tokens": tokens,
            "vision_tokens": contract.vision_tokens + more,
            "kv_capacity": contract.kv_capacity + more,
            "grid": (tokens // columns, columns),
        }
    )
    connector = model.parts["connector"].clone()
    axes = analyse(connector.graph, contract.signature("connector"))
    resize(axes, axes.of(connector.graph.outputs[0])[1], tokens)
    return model.with_parts(changed, connector=connector, **follow(model, changed)[0])
