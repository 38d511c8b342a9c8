"""Which nodes of our graph an instruction of a .pte is made of, and a delegate in its inside.

    ONNX node --export--> torch calls --decomposed, partitioned--> edge nodes --> instructions

Every edge node has a debug handle and remembers the call that it came from; the emitted program
says which handles an instruction has. Emitting numbers them anew, so they are read before:

    traced = trace(edge)                        # the EdgeProgramManager, lowered
    program = edge.to_executorch(...)
    nodes = nodes_of(traced, program)

An export that names what it traces keeps the names of ONNX nodes to the end; otherwise a node goes
by the name of its torch call (executorch 1.5.1, torch 2.13: seen):

    with torch.fx.traceback.annotate({NODE_KEY: name}):     # around each node's torch calls
    with torch.fx.traceback.preserve_node_meta():           # around torch.export.export

An ETRecord says the same and has all weights and the paths of who made it: it is not needed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.node_key import NODE_KEY

__all__ = [
    "NODES",
    "Node",
    "Nodes",
    "Traced",
    "nodes_as_json",
    "nodes_of",
    "nodes_text",
    "read_nodes",
    "trace",
]

NODES = "nodes.json"  # the file beside a .pte
MOST_BYTES = 64 * 2**20
DELEGATE_CALL = "executorch_call_delegate"


class Node(NamedTuple):
    op: str  # of torch: linear, native_layer_norm
    node: str  # of our graph, or the torch call's


#: method -> instruction -> the nodes that it is made of, in order
Nodes = Mapping[str, Mapping[int, tuple[Node, ...]]]


class Call(NamedTuple):
    handle: int
    node: Node


@dataclass(frozen=True)
class Traced:
    """One method: calls that stay with ExecuTorch, and those of each delegate, in order."""

    calls: tuple[Call, ...]
    delegates: tuple[tuple[Call, ...], ...]


def trace(edge: Any) -> dict[str, Traced]:
    """Of an EdgeProgramManager that is lowered and not yet emitted, by method."""
    found = {}
    for method in edge.methods:
        module = edge.exported_program(method).graph_module
        lowered = [
            getattr(module, str(node.args[0].target)).original_module.graph_module
            for node in module.graph.nodes
            if getattr(node.target, "__name__", "") == DELEGATE_CALL
        ]
        found[method] = Traced(tuple(_calls(module)), tuple(tuple(_calls(m)) for m in lowered))
    return found


def nodes_of(traced: Mapping[str, Traced], program: Any) -> Nodes:
    """`program`: the ExecutorchProgramManager made of what was traced.

    An instruction whose handles are not those of what stands at its place gets no nodes.
    """
    return {
        method: _of_method(traced[method], handles, program.delegate_map.get(method, {}))
        for method, handles in program.debug_handle_map.items()
        if method in traced
    }


def _of_method(
    traced: Traced, handles: Mapping[int, Any], delegates: Mapping[int, Any]
) -> dict[int, tuple[Node, ...]]:
    found: dict[int, tuple[Node, ...]] = {}
    inside = dict(zip(sorted(delegates), traced.delegates, strict=False))
    for at, told in sorted(handles.items()):
        own = set(told) if isinstance(told, Sequence) else {told}
        calls = inside[at] if at in inside else _at_top(own, traced.calls)
        same = {call.handle for call in calls} == own
        found[int(at)] = tuple(call.node for call in calls) if same else ()
    return found


def _at_top(handles: set[int], calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if call.handle in handles]


def _calls(module: Any) -> Iterator[Call]:
    for node in module.graph.nodes:
        name = getattr(node.target, "__name__", "")
        handle = node.meta.get("debug_handle")
        works = node.op == "call_function" and name not in ("getitem", DELEGATE_CALL)
        if works and isinstance(handle, int):
            yield Call(handle, _named(node))


def _named(node: Any) -> Node:
    """aten.linear.default is linear; x * x is a square, as it is to kernels."""
    words = getattr(node.target, "__name__", str(node.target)).split(".")
    op = words[1] if len(words) > 2 else words[0]
    if op == "mul" and node.args[0] is node.args[1]:
        op = "square"
    custom = node.meta.get("custom") or {}
    return Node(op, str(custom.get(NODE_KEY) or _first_name(node)))


def _first_name(node: Any) -> str:
    """Of the call in the exported program, of which passes made this one."""
    name, sources = node.name, node.meta.get("from_node")
    while sources:
        name, sources = sources[-1].name, sources[-1].from_node
    return name


def nodes_as_json(nodes: Nodes) -> dict[str, Any]:
    return {
        "schema": 1,
        "methods": {
            method: {str(at): [list(each) for each in made] for at, made in instructions.items()}
            for method, instructions in nodes.items()
        },
    }


def nodes_text(nodes: Nodes) -> str:
    """What lies beside a .pte."""
    return json.dumps(nodes_as_json(nodes), separators=(",", ":")) + "\n"


def read_nodes(path: Path) -> Nodes:
    """What `nodes_as_json` gave, from a file. Raises JobFault EV360."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 20} MB")
        return _checked(json.loads(path.read_bytes()))
    except OSError as error:
        why = error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"[:300]
    raise JobFault("EV360", f"{path.name} cannot be read", why, "compile the bundle again")


def _checked(data: Any) -> Nodes:
    if data["schema"] != 1:
        raise ValueError("it has another schema")
    return {
        str(method): {
            int(at): tuple(Node(*map(_text, each)) for each in made)
            for at, made in instructions.items()
        }
        for method, instructions in data["methods"].items()
    }


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError("a name that is no text")
    return value
