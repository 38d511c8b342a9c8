"""KV caches as state: parts that read and write them in place, for runtimes that hold them.

    decode before   past_key_i [1,h,C,d], attention_mask [1,1,1,C+1] -> key_i [1,h,1,d]
    decode after    past_key_i [1,h,C,d], cache_position [1]         -> present_key_i [1,h,C,d]

        Concat(past, new) [C+1 rows]        -> TensorScatter(past, new, cache_position) [C rows]
        mask: the filled rows and the new   -> row <= cache_position

    prefill before  key_i [1,h,n,d]         -> after  present_key_i [1,h,C,d], zeros behind row n

`present_*` takes the place of `past_*` when a call is over, and the caller carries one number in
place of caches and masks: the row that the new token is written to, in a layer where no image token
is missing. Layers in front of which tokens were dropped have fewer rows, and subtract what is gone.
The new key goes where it belongs instead of behind all others, so C rows are attended to in place
of C + 1, and no row is copied where the runtime writes in place (torch: index_copy). TensorScatter
is ONNX's own op for this (opset 24), so the parts still run in ONNX Runtime.
https://onnx.ai/onnx/operators/onnx__TensorScatter.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.kv_names import CACHE_POSITION, PAST, PRESENT

__all__ = ["decode_with_state", "prefill_with_state"]

OPSET = 24  # of TensorScatter
ROWS = 2  # the axis of a cache along which tokens lie


def prefill_with_state(part: ir.Model, contract: Contract) -> ir.Model:
    """A copy whose outputs key_i, value_i [1,h,n,d] are present_* [1,h,C,d]."""
    part = part.clone()
    build = GraphBuilder(part, "state")
    for name, port, capacity in _caches(part, contract):
        short = capacity - int(port.shape[ROWS])
        held = port
        if short:
            zero = build.const(0, port.dtype.numpy())
            held = build("Pad", port, build.const([0, short]), zero, build.const([ROWS]))
            # where the rows are made: behind all else it would be done while they all wait
            made = held.producer()
            part.graph.remove(made)
            part.graph.insert_after(port.producer(), made)
        _returned(build, port, held, PRESENT + name)
    build.finish()
    return part


def decode_with_state(part: ir.Model, contract: Contract) -> ir.Model:
    """A copy with cache_position in place of masks, and present_* [1,h,C,d] in place of rows.

    Attention may be written out or not (compiler/attention.py writes it out only while its mask is
    still an input). Raises EV501 where a cache meets its new row otherwise than in a Concat.
    """
    part = part.clone()
    part.opset_imports[""] = OPSET
    build = GraphBuilder(part, "state")
    position = ir.Value(
        name=CACHE_POSITION, shape=ir.Shape((1,)), type=ir.TensorType(ir.DataType.INT64)
    )
    part.graph.inputs.append(position)
    places: dict[int, ir.Value] = {0: position}

    def place(capacity: int) -> ir.Value:
        gone = contract.kv_capacity - capacity
        if gone not in places:
            places[gone] = build("Sub", position, build.const([gone]))
        return places[gone]

    for name, port, capacity in _caches(part, contract):
        past = next(v for v in part.graph.inputs if v.name == PAST + name)
        written = _meet(build, past, port, place(capacity))
        if written is None:
            written = build("TensorScatter", past, port, place(capacity), axis=ROWS)
        _returned(build, port, written, PRESENT + name)
    for tokens, name in contract.masks.items():
        capacity = contract.kv_capacity - (contract.kept_image_tokens - tokens)
        mask = next(v for v in part.graph.inputs if v.name == name)
        rows = build.const(np.arange(capacity).reshape(1, 1, 1, capacity))
        seen = build("LessOrEqual", rows, place(capacity))
        ir.convenience.replace_all_uses_with(mask, seen)
        part.graph.inputs.remove(mask)
    _forget_shapes(part)
    build.finish()
    _check(part, contract)
    return part


def _caches(
    part: ir.Model, contract: Contract, prefix: str = ""
) -> list[tuple[str, ir.Value, int]]:
    """(key_0, the output of that name, rows of its cache), in the order of the contract."""
    outputs = {str(v.name): v for v in part.graph.outputs}
    return [
        (name, outputs[prefix + name], contract.capacity_at(layer))
        for layer in range(contract.layers)
        for name in (f"key_{layer}", f"value_{layer}")
    ]


def _returned(build: GraphBuilder, old: ir.Value, new: ir.Value, name: str) -> None:
    """`new` is an output in place of `old`, by this name."""
    if new is not old:
        build.graph.outputs[build.graph.outputs.index(old)] = new
        old.name = f"{old.name}_rows"
    new.name = name


def _meet(build: GraphBuilder, past: ir.Value, row: ir.Value, place: ir.Value) -> ir.Value | None:
    """Where the new row is put behind the old ones it is written among them instead.

    Returns the written cache where what is attended to is that, and not numbers made of its codes.
    """
    waiting, found = [past], None
    while waiting:
        value = waiting.pop()
        for node, position in list(value.uses()):
            if node.op_type in ("DequantizeLinear", "Cast"):  # codes become numbers first
                waiting.append(node.outputs[0])
            elif _appends(node, position):
                written = build("TensorScatter", value, node.inputs[1], place, axis=ROWS)
                found = written if (value, node.inputs[1]) == (past, row) else found
                build.take_over(node.outputs[0], written, [node])
                written.shape = None  # one row fewer
            else:
                raise _unstately(f"node {node.name} ({node.op_type}) reads {past.name}")
    return found


def _appends(node: ir.Node, position: int) -> bool:
    if node.op_type != "Concat" or position != 0 or len(node.inputs) != 2:
        return False
    return node.attributes.get_int("axis", 0) % 4 == ROWS


def _forget_shapes(part: ir.Model) -> None:
    """Of everything computed: what hangs on the rows of a cache is one shorter now."""
    for node in part.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None


def _check(part: ir.Model, contract: Contract) -> None:
    """Nothing in it knows how many rows there were."""
    for name, port, rows in _caches(part, contract, PRESENT):
        wanted = [1, contract.kv_heads, rows, contract.head_dim]
        if port.shape is None or list(port.shape) != wanted:
            raise _unstately(f"output {name} has shape {port.shape}, not {wanted}")


def _unstately(what: str) -> JobFault:
    return JobFault(
        "EV501",
        f"part decode: {what}",
        "its caches cannot be kept as state",
        "please report this with the recipe",
    )
