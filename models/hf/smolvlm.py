"""SmolVLM and Idefics3: a SigLIP tower, a pixel shuffle with one linear layer, a Llama decoder.

transformers: SmolVLMForConditionalGeneration, Idefics3ForConditionalGeneration (arXiv 2504.05299,
2408.12637). A static graph sees one picture: the global view of `max_image_size`, squashed to a
square as the processor does with `do_image_splitting=False`; tiles are not cut. The processor
enlarges a picture to 2048 px before it shrinks it to that square; we resize once.

The pixel shuffle folds a block of patches into the channels of one image token, so tokens may be
pruned behind it (keep-tokens does), not in front of it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgevlm.models.hf.family import Family, Organs

__all__ = ["SMOLVLM"]


class _Vision(nn.Module):
    """pixel_values of full size: every patch is real, so positions are a table and need no mask."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.encoder = tower.embeddings, tower.encoder
        self.norm = tower.post_layernorm

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        hidden = patches + self.embeddings.position_embedding.weight
        return self.norm(self.encoder(inputs_embeds=hidden).last_hidden_state)


def _organs(model: nn.Module) -> Organs:
    config = model.config
    side = config.vision_config.image_size
    edge = side // config.vision_config.patch_size
    rows = edge // config.scale_factor
    return Organs(
        vision=_Vision(model.model.vision_model),
        connector=model.model.connector,
        language=model.model.text_model,
        head=model.lm_head,
        image_size=(side, side),
        grid=(rows, rows),
        vision_tokens=edge * edge,
        vision_width=config.vision_config.hidden_size,
        image_tokens=rows * rows,
    )


def _image_config(config: dict[str, Any]) -> dict[str, Any]:
    """SmolVLM's processor with splitting off, said as a CLIP processor."""
    side = config.get("max_image_size", {}).get("longest_edge", 364)
    shared = {
        key: config[key]
        for key in (
            "resample",
            "do_resize",
            "do_rescale",
            "rescale_factor",
            "do_normalize",
            "image_mean",
            "image_std",
        )
        if key in config
    }
    return {
        **shared,
        "image_processor_type": "CLIPImageProcessor",
        "do_center_crop": False,
        "size": {"height": side, "width": side},
    }


SMOLVLM = Family(
    name="smolvlm",
    model_types=("smolvlm", "idefics3"),
    class_name="AutoModelForImageTextToText",
    organs=_organs,
    image_token="<image>",
    image_text="<fake_token_around_image><global-img><image><fake_token_around_image>",
    image_config=_image_config,
)
