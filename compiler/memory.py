"""How much memory a model takes while it answers: weights, KV caches, activations at their peak.

Two ends, since a runtime may do better or worse than it must:

    least   weights as they are stored, a tensor that parts share once; parts run one after another
            and give their activations back; what lies inside a fused kernel takes nothing
    most    every part holds weights and activations of its own, every node's outputs take room,
            and so do the scores within Attention

Nothing is assumed to be computed in place. Counted from the graphs, so it is `predicted`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.cost import attention_scores
from edgevlm.compiler.fused import constants_of, fuse, is_view, source_of
from edgevlm.compiler.layers import Size, size_of, weight_sizes, written

__all__ = ["Need", "Range", "Step", "activation_bytes", "need_of", "peak_bytes"]

PAST = "past_"  # inputs that are KV caches, counted once for all parts
BEHIND = ("embed", "prefill", "decode")  # parts during which the image's tokens are kept

Step = tuple[Iterable[Hashable], Iterable[Hashable]]  # what one kernel reads, what it writes


@dataclass(frozen=True)
class Range:
    """Bytes, at least and at most."""

    least: int
    most: int

    def __add__(self, more: Range) -> Range:
        return Range(self.least + more.least, self.most + more.most)


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes; `largest` is its largest single tensor, such as an LM head."""

    weights: Range
    kv: int
    activations: Range
    largest: int
    largest_name: str  # role/tensor

    @property
    def total(self) -> Range:
        return self.weights + self.activations + Range(self.kv, self.kv)


def need_of(
    parts: Mapping[Role, ir.Model], contract: Contract, *, folds: bool, width: int = 4
) -> Need:
    """Of a model whose float tensors may be held with `width` bytes each (2: half precision).

    folds: each part makes float weights of its own when it is opened (compiler/layers.py), so that
    nothing is shared. Raises ValueError for a part whose shapes are not all known.
    """
    once: dict[Hashable, int] = {}
    largest = (0, "")
    apart, reused, kept = 0, 0, 0
    carried = Size()  # what the connector made of the picture
    for role, part in parts.items():
        for value, size in weight_sizes(part, folds=folds).items():
            apart += size.bytes()
            key = (role, value) if folds else _content(value)
            once[key] = size.bytes(width)
            largest = max(largest, (size.bytes(width), f"{role}/{value.name}"))
        alone = activation_bytes(part, fused=True, width=width)
        reused = max(reused, alone + (carried.bytes(width) if role in BEHIND else 0))
        kept += activation_bytes(part, fused=False)
        leaving = (value for group in fuse(part) for value in written(group))
        for value in (*part.graph.inputs, *leaving):
            largest = max(largest, (size_of(value).bytes(width), f"{role}/{value.name}"))
        if role == "connector":
            carried = sum((size_of(v) for v in part.graph.outputs), Size())
    return Need(
        weights=Range(sum(once.values()), apart),
        kv=contract.kv_bytes if contract.kind == "vlm" else 0,
        activations=Range(reused, kept + carried.bytes()),
        largest=largest[0],
        largest_name=largest[1],
    )


def activation_bytes(part: ir.Model, *, fused: bool, width: int = 4) -> int:
    """The peak of one run, its inputs and outputs included, its weights and KV caches not.

    fused: what lies inside a kernel (compiler/fused.py) takes no room.
    """
    given = {v for v in part.graph.inputs if not str(v.name).startswith(PAST)}
    caches = set(part.graph.inputs) - given
    constant = constants_of(part)
    if fused:
        runs = [(group.nodes, set(written(group))) for group in fuse(part)]
    else:
        nodes = [n for n in part.graph if n not in constant and not is_view(n)]
        runs = [((node,), set(node.outputs)) for node in nodes]
    steps: list[Step] = []
    size: dict[Hashable, int] = {value: size_of(value).bytes(width) for value in given}
    for nodes, writes in runs:
        inside = set(nodes)
        reads = {
            source_of(v)
            for node in nodes
            for v in node.inputs
            if v is not None and not v.is_initializer() and v.producer() not in constant
        }
        outer = {v for v in reads if v.producer() not in inside} - caches
        steps.append((outer, writes))
        size |= {v: size_of(v).bytes(width) for v in writes}
        if not fused and nodes[0].op_type == "Attention":
            size[nodes[0]] = attention_scores(nodes[0]) * width
            writes.add(nodes[0])  # read by nobody, so gone behind it
    outputs = {source_of(v) for v in part.graph.outputs}
    return peak_bytes(steps, size, kept=given | (outputs & size.keys()), given=given)


def peak_bytes(
    steps: Sequence[Step],
    size: Mapping[Hashable, int],
    *,
    kept: Iterable[Hashable] = (),
    given: Iterable[Hashable] = (),
) -> int:
    """The most bytes alive at once while steps run in order.

    A value is alive from the step that writes it to the last one that reads it; `given` are alive
    from the start, `kept` to the end. What a step reads and writes is alive together.
    """
    last: dict[Hashable, int] = {}
    for i, (reads, writes) in enumerate(steps):
        last |= dict.fromkeys((*reads, *writes), i)
    last |= dict.fromkeys(kept, len(steps))
    ends: dict[int, list[Hashable]] = {}
    for value, i in last.items():
        ends.setdefault(i, []).append(value)
    there = set(given)
    most = sum(size[value] for value in there)
    alive = there & last.keys()
    now = sum(size[value] for value in alive)
    for i, (_, writes) in enumerate(steps):
        for value in writes:
            if value not in alive:
                alive.add(value)
                now += size[value]
        most = max(most, now)
        for value in ends.get(i, ()):
            if value in alive:
                alive.discard(value)
                now -= size[value]
    return most


def _content(value: ir.Value) -> Hashable:
    """The same for tensors of the same bytes: they are stored once."""
    tensor = value.const_value
    if isinstance(tensor, ir.ExternalTensor):
        return str(tensor.base_dir), str(tensor.location), tensor.offset, tensor.length
    if tensor.dtype.bitwidth < 8:
        data = tensor.tobytes()
    else:
        data = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data
    return hashlib.sha256(data).hexdigest()
