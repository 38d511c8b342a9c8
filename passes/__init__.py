"""Every pass there is, in the order a reader would meet them. One added here is available."""

from __future__ import annotations

from difflib import get_close_matches

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.recipe import Recipe
from edgevlm.passes.cleanup.drop_dead import DropDead
from edgevlm.passes.cleanup.drop_zero_masks import DropZeroMasks
from edgevlm.passes.cleanup.fold_batch_norm import FoldBatchNorm
from edgevlm.passes.cleanup.fold_constants import FoldConstants
from edgevlm.passes.cleanup.fuse_attention import FuseAttention
from edgevlm.passes.cleanup.fuse_gelu import FuseGelu
from edgevlm.passes.cleanup.fuse_layer_norm import FuseLayerNorm
from edgevlm.passes.cleanup.gather_early import GatherEarly
from edgevlm.passes.cleanup.merge_duplicates import MergeDuplicates
from edgevlm.passes.derive.keep_classes import KeepClasses
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.derive.purify_units import PurifyUnits
from edgevlm.passes.derive.recover_encoder import RecoverEncoder
from edgevlm.passes.mobile.channels_first import ChannelsFirst
from edgevlm.passes.mobile.four_axes import FourAxes
from edgevlm.passes.mobile.one_hot_tokens import OneHotTokens
from edgevlm.passes.mobile.separate_qkv import SeparateQkv
from edgevlm.passes.mobile.unfold_patches import UnfoldPatches
from edgevlm.passes.precision.cast_half import CastHalf
from edgevlm.passes.quantize.compensate_modalities import CompensateModalities
from edgevlm.passes.quantize.palettise_weights import PalettiseWeights
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_dynamically import QuantizeDynamically
from edgevlm.passes.quantize.quantize_kv import QuantizeKv
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.scale_weights import ScaleWeights
from edgevlm.passes.quantize.smooth_activations import SmoothActivations
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.merge_attention import MergeAttention
from edgevlm.passes.tokens.resize_image import ResizeImage

__all__ = ["PASSES", "find_pass", "make_passes"]

PASSES: dict[str, type[Pass]] = {
    p.name: p
    for p in (
        # clean-up
        FoldConstants,
        FuseLayerNorm,
        FuseGelu,
        FuseAttention,
        FoldBatchNorm,
        MergeDuplicates,
        DropZeroMasks,
        DropDead,
        GatherEarly,
        # token reduction
        ResizeImage,
        KeepTokens,
        MergeAttention,
        # derivation
        KeepClasses,
        PurifyUnits,
        NarrowEncoder,
        RecoverEncoder,
        # quantisation
        SmoothActivations,
        ScaleWeights,
        PalettiseWeights,
        QuantizeWeights,
        CompensateModalities,
        QuantizeActivations,
        QuantizeDynamically,
        QuantizeKv,
        # mobile
        SeparateQkv,
        UnfoldPatches,
        OneHotTokens,
        FourAxes,
        ChannelsFirst,
        # precision
        CastHalf,
    )
}


def find_pass(name: str) -> type[Pass]:
    """Raises EV201 (UsageFault) with the nearest names."""
    if name not in PASSES:
        near = get_close_matches(name, PASSES, n=3, cutoff=0.4) or list(PASSES)
        raise UsageFault(
            "EV201",
            f"unknown pass {name!r}",
            f"the nearest: {', '.join(near)}",
            "edgevlm passes list",
        )
    return PASSES[name]


def make_passes(recipe: Recipe) -> list[Pass]:
    """The passes of a recipe, options checked. Raises EV201, EV202, EV205."""
    passes = [find_pass(step.name)(**step.options) for step in recipe.steps]
    seen: list[str] = []
    names = [p.name for p in passes]
    for p in passes:
        late = [n for n in p.after if n in names and n not in seen]
        if late:
            raise UsageFault(
                "EV205",
                f"{p.name} comes before {late[0]} in the recipe",
                f"{p.name} works on what {late[0]} leaves",
                f"move {late[0]} in front of {p.name}",
            )
        seen.append(p.name)
    return passes
