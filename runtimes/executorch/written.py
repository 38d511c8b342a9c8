"""A part as XNNPACK multiplies it, in ONNX still; what it has no kernel for is refused first.

four-bit weights of one scale a channel -> int8, the same integers: kernels of static int8 take
                                           nothing smaller
a short block at the end of a row       -> refused: kernels of blocks have whole ones
weights that are rounded alone          -> refused: a float product reads float weights
scatter that adds up, volumes           -> refused: there are no portable kernels to fall back on
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.legalise import refused
from edgevlm.compiler.quantised import is_rounded, weights_of
from edgevlm.compiler.recipe import Recipe
from edgevlm.compiler.widen import int4_as_int8
from edgevlm.runtimes.executorch.backends import Backend

__all__ = ["check_schemes", "written"]

ROUNDING = ("quantize-activations", "quantize-dynamically")
#: of these there are kernels for lines and pictures
WINDOWS = ("AveragePool", "Conv", "LpPool", "MaxPool")
PICTURE = 4  # axes
#: XNNPACK packs blocks of four bits in multiples of this
BLOCK_MULTIPLE = 32


def check_schemes(recipe: Recipe, backend: Backend) -> None:
    """Raises EV303, before any pass has run, for what its products cannot be."""
    names = {step.name for step in recipe.steps}
    rounding = sorted(name for name in names if name.startswith("quantize-"))
    if rounding and backend.not_rounded:
        raise JobFault(
            "EV303",
            f"pass {rounding[0]} cannot be lowered for {backend.name}",
            backend.not_rounded,
            "leave --quant out, or --toolchain xnnpack",
        )
    if "quantize-weights" in names and not names & set(ROUNDING):
        raise JobFault(
            "EV303",
            f"weights that are rounded alone cannot be lowered for {backend.name}",
            "products are int8 by int8, int4 in blocks by rounded rows, or float by float; these "
            "would be floats in the file",
            "--quant 8da8w or 8da4w  (rows of inputs rounded at run time), or w8a8",
        )


def written(role: str, part: ir.Model, portable: bool = True) -> ir.Model:
    """A copy. portable: what no delegate takes is left to portable kernels.

    Raises EV303 naming part and node.
    """
    for node in part.graph:
        if why := _no_kernel(node) if portable else "":
            fix = "a pass that removes it, as one-hot-tokens does a scatter: edgevlm passes list"
            raise refused(role, f"node {who(node)}", why, fix)
        maker = weights_of(node)
        block = maker.attributes.get_int("block_size", 0) if maker is not None else 0
        if not block:
            continue
        inputs = int(maker.inputs[0].shape[maker.attributes.get_int("axis", 1)])
        if inputs % block or block % BLOCK_MULTIPLE:
            why = f"blocks of {block} for {inputs} inputs; XNNPACK has whole ones, of 32 and more"
            raise refused(role, f"node {node.name}", why, "--quant 8da8w")
        if not is_rounded(node.inputs[0]):
            why = "its weights are four bits in blocks and its inputs float"
            raise refused(role, f"node {node.name}", why, "--quant 8da4w")
    return int4_as_int8(part)


def _no_kernel(node: ir.Node) -> str:
    """Why a program with it would not load; empty where it does."""
    if node.op_type.startswith("Scatter"):
        how = node.attributes.get_string("reduction", "none")
        if how != "none" and node.op_type == "ScatterElements":
            return f"ExecuTorch has no kernel that scatters and puts together by {how!r}"
    shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    if node.op_type in WINDOWS and shape is not None and len(shape) > PICTURE:
        return f"ExecuTorch has no {node.op_type} over {len(shape) - 2} axes; up to 2"
    return ""
