"""Hugging Face checkpoints -> exported models. The families that are known, on one screen."""

from __future__ import annotations

__all__ = ["FAMILIES", "OPSET"]

#: of the default ONNX domain: what every part is exported at
OPSET = 23

#: model_type in config.json -> (module of this package, name of the Family in it)
FAMILIES: dict[str, tuple[str, str]] = {
    "idefics3": ("edgevlm.models.hf.smolvlm", "SMOLVLM"),
    "llava": ("edgevlm.models.hf.llava", "LLAVA"),
    "smolvlm": ("edgevlm.models.hf.smolvlm", "SMOLVLM"),
}
