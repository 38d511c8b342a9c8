"""Where activations are rounded: the values of a part that a target wants as integers."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgevlm.compiler.attention import grouped_attention
from edgevlm.compiler.blocks import find_blocks
from edgevlm.compiler.quantised import is_float8, is_rounded, weights_of
from edgevlm.passes.quantize.forms import IntegerForm
from edgevlm.passes.quantize.scheme import Number

__all__ = ["KINDS", "Site", "find_sites"]

#: kind of a site -> what its users are, for notes; {} is what 8 bits are
KINDS = {
    "product": "products with {} inputs",
    "attention": "inputs of attention as {}",
    "output": "readers of {} outputs of products",
    "residual": "readers of an int16 residual stream",
}

MOVES = frozenset({"Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
#: of queries from which int8 scores cost less than rounding all keys; a decode step has fewer
ROWS = 16


@dataclass(frozen=True)
class Site:
    """One value, and who reads it rounded."""

    value: ir.Value
    users: tuple[tuple[ir.Node, int], ...]
    bits: int
    kind: str


def find_sites(
    part: ir.Model, form: IntegerForm, number: Number = "int"
) -> tuple[ir.Model, list[Site]]:
    """A copy of the part, its attention written out where the form rounds that, and its sites.

    number: of 8 bits; a product takes inputs of the kind that its weights are.
    """
    streams = _streams(part.graph) if form.residual_bits else set()
    clone = _attention_as(form, part)
    found: dict[ir.Value, Site] = {}
    for node in clone.graph:
        for value, position in _products(node, form, number):
            if form.outputs:
                made = _made(node)
                if _leaves(made):  # logits and the like keep their bits
                    continue
                for use in made.uses():
                    _join(found, made, use, "output")
            _join(found, value, (node, position), "product")
        if _in_attention(node, form):
            for position, value in enumerate(node.inputs):
                _join(found, value, (node, position), "attention")
    for node in clone.graph:
        for value in node.outputs:
            if value.name in streams and value not in found and not value.is_graph_output():
                uses = tuple((user, i) for user, i in value.uses())
                found[value] = Site(value, uses, form.residual_bits, "residual")
    return clone, list(found.values())


def _join(
    found: dict[ir.Value, Site], value: ir.Value, use: tuple[ir.Node, int], kind: str
) -> None:
    if value.dtype != ir.DataType.FLOAT or is_rounded(value):
        return
    known = found.get(value)
    users = known.users if known else ()
    if use not in users:
        found[value] = Site(value, (*users, use), 8, known.kind if known else kind)


def _products(node: ir.Node, form: IntegerForm, number: Number) -> list[tuple[ir.Value, int]]:
    """The input of a product with weights of this kind, a scale an output channel."""
    maker = weights_of(node) if node.op_type in form.products else None
    if maker is None or is_float8(maker) != (number == "e4m3"):
        return []
    whole_rows = len(maker.inputs[1].shape) < 2
    return [(node.inputs[0], 0)] if whole_rows else []


def _made(node: ir.Node) -> ir.Value:
    """What a product gives, its bias added."""
    value = node.outputs[0]
    users = list(value.uses())
    if len(users) != 1 or value.is_graph_output() or users[0][0].op_type != "Add":
        return value
    add, position = users[0]
    bias = add.inputs[1 - position]
    vector = bias is not None and bias.is_initializer() and len(bias.shape) == 1
    return add.outputs[0] if vector else value


def _leaves(value: ir.Value) -> bool:
    """Whether all that becomes of it is that the part returns it."""
    moved = all(node.op_type in MOVES and i == 0 and _leaves(node.outputs[0])
                for node, i in value.uses())  # fmt: skip
    return moved and (bool(value.uses()) or value.is_graph_output())


def _attention_as(form: IntegerForm, part: ir.Model) -> ir.Model:
    """A copy; causal attention stays whole where one kernel is to take all of it."""
    if form.attention == "float":
        return part.clone()
    return grouped_attention(part, None) if form.attention == "both" else grouped_attention(part)


def _in_attention(node: ir.Node, form: IntegerForm) -> bool:
    """A product of two computed values that the form wants as integers."""
    if node.op_type != "MatMul" or form.attention == "float" or not _both_computed(node):
        return False
    if form.attention == "both":
        return True
    left = node.inputs[0]
    of_probabilities = left.producer() is not None and left.producer().op_type == "Softmax"
    return not of_probabilities and int(left.shape[-2]) >= ROWS


def _both_computed(node: ir.Node) -> bool:
    stored = weights_of(node) is not None or any(v.is_initializer() for v in node.inputs)
    return not stored and all(v.dtype == ir.DataType.FLOAT for v in node.inputs)


def _streams(graph: ir.Graph) -> set[str]:
    """Names of the residual stream's values, between and behind the halves of blocks."""
    values = [v for b in find_blocks(graph) for v in (b.entry, b.middle, b.exit)]
    return {str(v.name) for v in values if v is not None and v.producer() is not None}
