"""What a family of checkpoints must tell: where its organs are and how large an image is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Family", "Organs"]


@dataclass(frozen=True)
class Organs:
    """A model taken apart. Sizes in pixels, tokens and channels."""

    vision: nn.Module  # pixel_values [1,3,H,W] -> image_features [1,vision_tokens,vision_width]
    connector: nn.Module  # image_features -> image_embeds [1,image_tokens,D]
    language: nn.Module  # transformers Llama-like: embed_tokens, rotary_emb, layers, norm
    head: nn.Module  # [.., D] -> [.., V]
    image_size: tuple[int, int]  # height, width
    grid: tuple[int, int]  # rows x columns of image tokens
    vision_tokens: int
    vision_width: int
    image_tokens: int


@dataclass(frozen=True)
class Family:
    """One architecture of transformers."""

    name: str
    model_types: tuple[str, ...]  # `model_type` in config.json
    class_name: str  # in transformers
    organs: Callable[[nn.Module], Organs]
    image_token: str  # as the chat template writes it
    image_text: str | None = None  # what the processor makes of it, if more than the token itself
    #: the image processor's config in CLIP's words, for a processor of the family's own
    image_config: Callable[[dict[str, Any]], dict[str, Any]] = dict
