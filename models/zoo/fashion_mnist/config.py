"""Say once what fashion-vit is made of."""

from __future__ import annotations

from typing import Any

__all__ = ["MEAN", "STD", "VIT"]

#: of the training pictures, in 0 to 1
MEAN, STD = 0.2858, 0.3529
#: transformers' ViTConfig: 49 patches and CLS, 1.9 million parameters; heads and hidden units are
#: multiples of 8 with room to take some away
VIT: dict[str, Any] = {
    "image_size": 28,
    "patch_size": 4,
    "num_channels": 3,  # grey, three times: what every classifier of photographs takes
    "hidden_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 5,
    "intermediate_size": 640,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
}
