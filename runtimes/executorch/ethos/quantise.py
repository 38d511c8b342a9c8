"""Integers by PT2E, in the environment `ethos`: weights by channel, ranges fitted to given inputs.

A program that carries quantize and dequantize nodes already keeps its scales. The backend takes an
op only where Arm's quantizer has left its mark, so `adopt` puts that on what stands between them.
https://docs.pytorch.org/ao/stable/pt2e_quantization/index.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.ethos.graph import op_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

__all__ = ["adopt", "call_flat", "is_quantised", "quantised"]

#: sums and products of elements, in 16 bits: squares of a normalisation have no room in eight.
#: easyvqa-tiny's vision part has 24 dB with them and 15 without, for half as many cycles again;
#: functions (rsqrt, exp, ...) stay eight, which are tables of all codes and exact
WIDE = ("add.Tensor", "mul.Tensor", "pow.Tensor_Scalar", "sub.Tensor", "sum.dim_IntList")
#: executorch/backends/arm/common/annotation_meta.py
_MARK = {"_arm_annotation_info": {"quantized": True}}


def is_quantised(program: ExportedProgram) -> bool:
    return any(_is(node, "") for node in program.graph.nodes)


def adopt(program: ExportedProgram) -> None:
    """Bring a quantised program, in place, to the form that Arm's own quantizer leaves.

    Each reader has a dequantize of its own, as one that is read inside and outside a delegate stays
    outside. Each op that all float inputs reach through dequantize, and that only quantize reads,
    is marked.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if _is(node, "dequantize"):
            with graph.inserting_after(node):
                for user in list(node.users)[1:]:
                    user.replace_input_with(node, graph.node_copy(node))
    for node in graph.nodes:
        if op_of(node) is None or _is(node, "") or not node.users:
            continue
        fed = all(
            _is(source, "dequantize") or not _floats(source) for source in node.all_input_nodes
        )
        if fed and all(_is(user, "quantize") for user in node.users):
            node.meta["custom"] = {**node.meta.get("custom", {}), **_MARK}
    program.graph_module.recompile()


def quantised(
    program: ExportedProgram,
    spec: Any,
    samples: Sequence[Sequence[Tensor]],
    wide_ports: bool = False,
) -> ExportedProgram:
    """`program` in integers for `spec`, an EthosUCompileSpec. Raises EV375 without samples.

    samples: inputs of one run each, flat, in the order of the program. wide_ports: 16 bits for
    what goes in and out, for inputs whose rows are of very different sizes.
    """
    if not samples:
        raise JobFault(
            "EV375",
            "an Ethos-U computes in integers, and the part is float",
            "there are no inputs to fit ranges to",
            "--calib FOLDER, or a model with pictures of its own",
        )
    import torch
    from executorch.backends.arm.quantizer import (
        EthosUQuantizer,
        get_symmetric_a16w8_quantization_config,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = EthosUQuantizer(spec).set_global(get_symmetric_quantization_config())
    wide = get_symmetric_a16w8_quantization_config()
    if wide_ports:
        quantizer.set_io(wide)
    for name in WIDE:
        op, overload = name.split(".")
        quantizer.set_node_target(getattr(getattr(torch.ops.aten, op), overload), wide)
    # with guards, a call of them stays in the graph, which the passes of the backend refuse
    prepared = prepare_pt2e(program.module(check_guards=False), quantizer)
    with torch.no_grad():
        for sample in samples:
            call_flat(prepared, program, sample)
    converted = convert_pt2e(prepared)
    args, kwargs = _arranged(program, samples[0])
    return torch.export.export(converted, args, kwargs)


def call_flat(module: Any, program: ExportedProgram, sample: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of `module`, which has the signature of `program`, flat."""
    from torch.utils import _pytree as pytree

    args, kwargs = _arranged(program, sample)
    return pytree.tree_leaves(module(*args, **kwargs))


def _is(node: Node, kind: str) -> bool:
    """One of the ops quantize..., dequantize...; "": any of them."""
    return (op_of(node) or "").startswith(f"quantized_decomposed.{kind}")


def _floats(node: Node) -> bool:
    value = node.meta.get("val")
    return hasattr(value, "dtype") and value.dtype.is_floating_point


def _arranged(program: ExportedProgram, sample: Sequence[Tensor]) -> tuple[tuple, dict]:
    """Flat inputs as the program takes them: positions, names, dictionaries."""
    from torch.utils import _pytree as pytree

    return pytree.tree_unflatten(list(sample), program.call_spec.in_spec)
