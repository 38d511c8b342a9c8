"""Every token reduction method there is, in the order of the cards. One added here is available."""

from __future__ import annotations

from difflib import get_close_matches

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.methods.alvts import Alvts
from edgevlm.passes.tokens.methods.apet import Apet
from edgevlm.passes.tokens.methods.cdpruner import CDPruner
from edgevlm.passes.tokens.methods.coin import CoIn
from edgevlm.passes.tokens.methods.dart import Dart
from edgevlm.passes.tokens.methods.divprune import DivPrune
from edgevlm.passes.tokens.methods.duet import Duet
from edgevlm.passes.tokens.methods.embedlens import EmbedLens
from edgevlm.passes.tokens.methods.fastv import FastV
from edgevlm.passes.tokens.methods.grid_max import GridMax
from edgevlm.passes.tokens.methods.hawk import Hawk
from edgevlm.passes.tokens.methods.hilo import HiLo
from edgevlm.passes.tokens.methods.horizon import Horizon
from edgevlm.passes.tokens.methods.httm import Httm
from edgevlm.passes.tokens.methods.prumerge import PruMerge
from edgevlm.passes.tokens.methods.prune2drive import Prune2Drive
from edgevlm.passes.tokens.methods.random import Random
from edgevlm.passes.tokens.methods.resize import Resize
from edgevlm.passes.tokens.methods.sadtm import SadTM
from edgevlm.passes.tokens.methods.score import Score
from edgevlm.passes.tokens.methods.sparsevlm import SparseVLM
from edgevlm.passes.tokens.methods.stride import Stride
from edgevlm.passes.tokens.methods.tome import ToMe
from edgevlm.passes.tokens.methods.transprune import TransPrune
from edgevlm.passes.tokens.methods.v2drop import V2Drop
from edgevlm.passes.tokens.methods.visionzip import VisionZip
from edgevlm.passes.tokens.methods.vlm_pruner import VlmPruner
from edgevlm.passes.tokens.methods.zoo import Zoo

__all__ = ["METHODS", "find_method"]

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        # floors: what every other method has to beat
        Random,
        Stride,
        GridMax,
        Resize,
        # features alone
        DivPrune,
        Prune2Drive,
        Dart,
        Apet,
        Zoo,
        EmbedLens,
        # attention of the vision encoder
        Score,
        VisionZip,
        PruMerge,
        # merging in the vision encoder
        ToMe,
        SadTM,
        Httm,
        # inside the language model
        CDPruner,
        CoIn,
        HiLo,
        FastV,
        SparseVLM,
        VlmPruner,
        Hawk,
        V2Drop,
        TransPrune,
        Alvts,
        Horizon,
        # behind the encoder, then inside the language model
        Duet,
    )
}


def find_method(name: str) -> type[Method]:
    """Raises EV201 (UsageFault) with the nearest names."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=3, cutoff=0.4) or list(METHODS)
        raise UsageFault(
            "EV201",
            f"unknown token reduction method {name[:60]!r}",
            f"the nearest: {', '.join(near)}",
            "edgevlm passes list",
        )
    return METHODS[name]
