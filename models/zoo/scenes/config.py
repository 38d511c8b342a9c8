"""Say once what scenes-tiny is made of."""

from __future__ import annotations

from edgevlm.models.zoo.training.spec import Spec

__all__ = ["SPEC"]

#: 144 image tokens; one more tower layer than easyvqa-tiny, because small things are hard to tell
SPEC = Spec(side=96, tower_layers=5)
