"""Say once what easyvqa-tiny is made of."""

from __future__ import annotations

from edgevlm.models.zoo.training.spec import Spec

__all__ = ["SPEC"]

SPEC = Spec(side=64)  # 64 image tokens
