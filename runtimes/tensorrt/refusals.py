"""What TensorRT refuses, or takes and then runs slower than was asked for, in our words.

Each rule looks at one part as it will be written, and says what stands in the way; `refuse` raises
the first. The limits and how they are known: facts.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.legalise import refused
from edgevlm.compiler.mixed_types import mixed
from edgevlm.compiler.quantised import LINEAR
from edgevlm.runtimes.tensorrt.aim import Aim
from edgevlm.runtimes.tensorrt.facts import facts

__all__ = ["RULES", "refuse"]

#: (what, why, next command)
Found = tuple[str, str, str]
#: types of codes -> the scheme that makes them
NARROW = {"FLOAT8E4M3FN": "--quant w8a8", "INT4": "--quant w8a8"}


def refuse(role: str, part: ir.Model, aim: Aim) -> None:
    """Raises EV303 naming the part, what of it, and the limit."""
    for rule in RULES:
        for what, why, fix in rule(part, aim):
            raise refused(role, what, why, fix)


def _shapes(part: ir.Model, aim: Aim) -> Iterator[Found]:
    """An input of changing size needs an optimisation profile; parts have none."""
    for value in part.graph.inputs:
        if value.shape is None or not all(isinstance(d, int) for d in value.shape):
            why = f"its shape is {value.shape}, and no optimisation profile says how far it goes"
            yield f"input {value.name}", why, "export the model with sizes that are numbers"


def _types_of_chip(part: ir.Model, aim: Aim) -> Iterator[Found]:
    if aim.chip is None:
        return
    for value in part.graph.initializers.values():
        kind = value.dtype.name
        if kind in NARROW and kind not in aim.chip.types:
            why = f"{aim.chip.name} (sm_{aim.chip.sm}) multiplies no {kind}"
            yield f"tensor {value.name}", why, f"edgevlm compile ... {NARROW[kind]}"


def _topk(part: ir.Model, aim: Aim) -> Iterator[Found]:
    most = facts().limit("topk").value
    for node in part.graph:
        if node.op_type != "TopK":
            continue
        count = node.inputs[1].const_value
        if count is None:
            yield (
                f"node {node.name}",
                "k of TopK is computed",
                "keep a number of tokens: --tokens N",
            )
        elif int(count.numpy().item()) > most:
            why = f"k of TopK is {int(count.numpy().item())}, the most is {most}"
            yield f"node {node.name}", why, f"keep fewer tokens: --tokens {most}"


def _zero_points(part: ir.Model, aim: Aim) -> Iterator[Found]:
    for node in _linear(part):
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        if zero is None:
            continue
        array = zero.const_value.numpy() if zero.const_value is not None else None
        odd = array is None or zero.dtype == ir.DataType.UINT8
        if odd or (array.astype(np.float32) != 0).any():
            why = f"its zero point is {zero.dtype.name} and not zero; scales alone are taken"
            yield f"node {node.name}", why, "quantise it by edgevlm: --quant w8a8"


def _scales(part: ir.Model, aim: Aim) -> Iterator[Found]:
    for node in _linear(part):
        scale = node.inputs[1].const_value
        if scale is None:
            why = "its scale is computed while the part runs; TensorRT wants constants"
            yield f"node {node.name}", why, "--quant w4a16 or w8a8 in place of scales of run time"
        elif not (scale.numpy().astype(np.float32) > 0).all():
            why = "a scale of it is not above zero"
            yield f"node {node.name}", why, "please report this with the recipe"


def _computed(part: ir.Model, aim: Aim) -> Iterator[Found]:
    """What is no weight has one scale; what has blocks is int4."""
    for node in _linear(part):
        data, scale = node.inputs[:2]
        if scale.const_value is None or scale.const_value.size == 1:
            continue
        if not data.is_initializer():
            why = "it rounds what is computed by a scale a channel; TensorRT has one a tensor"
            yield f"node {node.name}", why, "quantise it by edgevlm: --quant w8a8"
        elif len(scale.shape) > 1 and data.dtype != ir.DataType.INT4:
            why = f"blocks of {data.dtype.name}; TensorRT has blocks of int4 alone"
            yield f"node {node.name}", why, "--quant w4a16, or a scale a channel: --quant w8"


def _channel_axis(part: ir.Model, aim: Aim) -> Iterator[Found]:
    """Along the inputs a scale cannot leave the sum: the product would run in float, in silence."""
    for node in part.graph:
        maker = node.inputs[1].producer() if len(node.inputs) > 1 and node.inputs[1] else None
        right = _outputs_axis(node)
        if right is None or maker is None or maker.op_type != "DequantizeLinear":
            continue
        codes, scale = maker.inputs[:2]
        if not codes.is_initializer() or len(scale.shape) == 0 or scale.const_value.size == 1:
            continue
        axis = maker.attributes.get_int("axis", 1) % len(codes.shape)
        blocks = len(scale.shape) > 1
        if (axis == right) if blocks else (axis != right):
            along = "in blocks along outputs" if blocks else "one an input"
            why = f"scales of its weights are {along}; its products would run in float"
            yield f"node {node.name}", why, "quantise it by edgevlm: --quant w8a8"


def _outputs_axis(node: ir.Node) -> int | None:
    """Of the output channels in the weights of a product."""
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    if node.op_type == "MatMul":
        return len(node.inputs[1].shape) - 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type)


def _int4(part: ir.Model, aim: Aim) -> Iterator[Found]:
    for node in _linear(part):
        codes, scale = node.inputs[:2]
        if len(scale.shape) == len(codes.shape) > 1 and any(
            int(whole) % int(blocks) for whole, blocks in zip(codes.shape, scale.shape, strict=True)
        ):
            why = (
                f"codes {list(codes.shape)} in blocks of scales {list(scale.shape)}; blocks divide"
            )
            yield f"node {node.name}", why, "--quant w4a16, which cuts what is left over"
        if codes.dtype == ir.DataType.INT4 and int(codes.shape[-1]) % 2:
            why = f"int4 codes in rows of {codes.shape[-1]}; they are packed two and two"
            yield f"node {node.name}", why, "--quant w8a8"


def _resize(part: ir.Model, aim: Aim) -> Iterator[Found]:
    for node in part.graph:
        if node.op_type == "Resize" and node.attributes.get_int("antialias", 0):
            why = "Resize with antialias is not known to TensorRT"
            yield f"node {node.name}", why, "resize pictures in front of the model"


def _one_type(part: ir.Model, aim: Aim) -> Iterator[Found]:
    opset = part.opset_imports.get("", 23)
    for node in part.graph:
        if why := mixed(node, opset):
            what = f"{why}; a strongly typed network inserts no casts"
            yield f"node {node.name}", what, "edgevlm compile MODEL --target ... casts them"


def _linear(part: ir.Model) -> Iterator[ir.Node]:
    return (node for node in part.graph if node.op_type in LINEAR)


RULES: tuple[Callable[[ir.Model, Aim], Iterator[Found]], ...] = (
    _shapes,
    _types_of_chip,
    _topk,
    _zero_points,
    _scales,
    _computed,
    _channel_axis,
    _int4,
    _resize,
    _one_type,
)
