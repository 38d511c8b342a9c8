"""Decode to match a prefill in segments: each layer's cache has its own length, each length a mask.

before: attention_mask [1,1,1,C+1] -> every layer        past_key_i [1,heads,C,d]
after:  attention_mask -> layers in front of the site    past_key_i [1,heads,C,d]
        attention_mask_1 [1,1,1,C'+1] -> those behind    past_key_j [1,heads,C',d]
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.axes import analyse, resize, size_of
from edgevlm.compiler.axes.cut import join
from edgevlm.compiler.contract import Contract
from edgevlm.passes.tokens.placing.request import Request, builder

__all__ = ["drop_unused", "shorten_caches"]

MASK = 3  # input of Attention


def shorten_caches(request: Request, contract: Contract) -> ir.Model:
    """decode for `contract`, whose `layer_tokens` are new."""
    before = request.model.contract
    part = request.model.parts["decode"].clone()
    graph, build = part.graph, builder(part)
    ports = {str(v.name): v for v in graph.inputs}
    attentions = [_attention(ports[f"past_key_{layer}"]) for layer in range(contract.layers)]
    old = {str(p.name): p for p in before.inputs("decode")}
    own: list[ir.Value] = []  # a mask for every layer, so that each cache is free of the others
    for layer, node in enumerate(attentions):
        name = before.masks[before.tokens_at(layer)]
        mask = _mask(f"mask of layer {layer}", old[name].shape)
        graph.inputs.append(mask)
        node.replace_input_with(MASK, build.copy(node.inputs[MASK], {ports[name]: mask}))
        own.append(mask)
    for name in before.masks.values():
        drop_unused(graph)
        graph.inputs.remove(ports[name])
    build.finish()
    axes = analyse(graph)
    for layer in range(contract.layers):
        term = axes.of(ports[f"past_key_{layer}"])[2]
        if size_of(term) != contract.capacity_at(layer):
            resize(axes, term, contract.capacity_at(layer))
    shared = {name: _mask(name, shape) for name, shape in _shapes(contract).items()}
    graph.inputs.extend(shared.values())
    for layer, mask in enumerate(own):
        join(graph, mask, shared[contract.masks[contract.tokens_at(layer)]])
    _in_order(graph, contract)
    build.finish()
    return part


def _mask(name: str, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.BOOL))


def _shapes(contract: Contract) -> dict[str, tuple[int, ...]]:
    names = contract.masks.values()
    return {p.name: p.shape for p in contract.inputs("decode") if p.name in names}


def _attention(cache: ir.Value) -> ir.Node:
    """The Attention node that reads a layer's cache; those of later layers only depend on it."""
    waiting = [cache]
    while waiting:
        for node, _ in waiting.pop(0).uses():
            if node.op_type == "Attention":
                return node
            waiting.extend(node.outputs)
    raise AssertionError("a cache nobody attends to")


def drop_unused(graph: ir.Graph) -> None:
    """Nodes and constants nobody reads: what prepared old masks, taps a method had no use for."""
    for node in reversed(list(graph)):
        if not any(v.uses() or v in graph.outputs for v in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in graph.outputs:
            del graph.initializers[name]


def _in_order(graph: ir.Graph, contract: Contract) -> None:
    by_name = {str(v.name): v for v in graph.inputs}
    ordered = [by_name[port.name] for port in contract.inputs("decode")]
    for value in list(graph.inputs):
        graph.inputs.remove(value)
    graph.inputs.extend(ordered)
