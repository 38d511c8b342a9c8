"""LLaVA: a CLIP or SigLIP tower, a two-layer projector, a Llama-like decoder.

transformers: LlavaForConditionalGeneration (arXiv 2304.08485, 2310.03744). The features of one
tower layer go through the projector as they are, so an image token is a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgevlm.compiler.errors import JobFault
from edgevlm.models.hf.family import Family, Organs

__all__ = ["LLAVA"]


class _Vision(nn.Module):
    """pixel_values -> the features of one layer; the layers behind it are not run."""

    def __init__(self, tower: nn.Module, layer: int, strategy: str) -> None:
        super().__init__()
        vision = getattr(tower, "vision_model", tower)
        states = len(vision.encoder.layers) + 1  # hidden_states holds the embeddings as well
        self.depth = layer if layer >= 0 else states + layer
        self.vision, self.strategy = vision, strategy
        vision.encoder.layers = vision.encoder.layers[: self.depth]

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.vision.embeddings(pixel_values)
        if hasattr(self.vision, "pre_layrnorm"):  # CLIP's own spelling
            hidden = self.vision.pre_layrnorm(hidden)
        hidden = self.vision.encoder(inputs_embeds=hidden).last_hidden_state
        return hidden


class _Connector(nn.Module):
    """image_features -> image_embeds; the class token is dropped here, where it stops mattering."""

    def __init__(self, projector: nn.Module, drop: int) -> None:
        super().__init__()
        self.projector, self.drop = projector, drop

    def forward(self, image_features: Tensor) -> Tensor:
        return self.projector(image_features[:, self.drop :])


def _organs(model: nn.Module) -> Organs:
    config = model.config
    layer, strategy = config.vision_feature_layer, config.vision_feature_select_strategy
    if not isinstance(layer, int):
        raise JobFault(
            "EV109",
            f"vision_feature_layer is a list ({layer})",
            "only one feature layer is supported so far",
            "choose a LLaVA with one layer",
        )
    vision = _Vision(model.model.vision_tower, layer, strategy)
    side = config.vision_config.image_size
    with torch.no_grad():
        tokens = vision(torch.zeros(1, 3, side, side)).shape[1]
    drop = 1 if strategy == "default" else 0
    edge = side // config.vision_config.patch_size
    return Organs(
        vision=vision,
        connector=_Connector(model.model.multi_modal_projector, drop),
        language=model.model.language_model,
        head=model.lm_head,
        image_size=(side, side),
        grid=(edge, edge),
        vision_tokens=tokens,
        vision_width=config.vision_config.hidden_size,
        image_tokens=tokens - drop,
    )


LLAVA = Family(
    name="llava",
    model_types=("llava",),
    class_name="LlavaForConditionalGeneration",
    organs=_organs,
    image_token="<image>",
)
