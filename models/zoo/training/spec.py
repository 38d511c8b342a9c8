"""Say what a bundled LLaVA is made of: sizes, prompt, and the untrained model that follows.

A trainer builds from a `Spec`; everybody else reads the checkpoint folder that results.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

__all__ = [
    "BOS",
    "EOS",
    "IMAGE",
    "MEAN_STD",
    "PAD",
    "PREFIX",
    "SPECIALS",
    "Spec",
    "build_model",
    "normalise",
    "prompt",
    "suffix",
]

SPECIALS = ("<pad>", "<s>", "</s>", "<image>")  # ids 0 to 3
PAD, BOS, EOS, IMAGE = range(4)
MEAN_STD = [0.5, 0.5, 0.5]
PREFIX = "<s>USER: <image>\n"  # the same for every question, so an image's questions share it


@dataclass(frozen=True)
class Spec:
    """Sizes of one model; tower and decoder are 128 wide with heads of 32."""

    side: int  # px, of the square image
    patch: int = 8  # px
    tower_layers: int = 4
    decoder_layers: int = 4
    decoder_hidden: int = 384  # width of the decoder's MLP
    vocabulary: int = 448  # tokens at most; the merges may run out before
    positions: int = 256  # tokens of image, question and answer, at most

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.side // self.patch

    @property
    def image_tokens(self) -> int:
        """CLS is dropped before the projector."""
        return self.grid**2


def suffix(question: str) -> str:
    """What follows PREFIX, up to and without the answer."""
    return f"{question} ASSISTANT:"


def prompt(question: str) -> str:
    """The whole prompt, with one <image> that the processor repeats once an image token."""
    return PREFIX + suffix(question)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """The image processor's arithmetic on a batch that has the model's size already."""
    return (images.float() / 255 - 0.5) / 0.5


def build_model(spec: Spec, tokens: int) -> LlavaForConditionalGeneration:
    """The untrained model, from the current torch seed; ids from `tokens` on are idle padding."""
    ids = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    vision = CLIPVisionConfig(
        image_size=spec.side,
        patch_size=spec.patch,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=spec.tower_layers,
        num_attention_heads=4,
        hidden_act="gelu",
        projection_dim=128,
    )
    text = LlamaConfig(
        vocab_size=-(-tokens // 8) * 8,
        hidden_size=128,
        intermediate_size=spec.decoder_hidden,
        num_hidden_layers=spec.decoder_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=spec.positions,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        **ids,
    )
    whole = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        projector_hidden_act="gelu",
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=spec.image_tokens,
        tie_word_embeddings=True,
        **ids,
    )
    model = LlavaForConditionalGeneration(whole)
    model.generation_config = GenerationConfig(**ids, do_sample=False, max_new_tokens=8)
    return model
