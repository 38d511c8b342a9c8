"""The payload of a Core ML delegate: a folder in one piece of bytes, unpacked and run.

    [files, one behind the other] [a JSON of the tree, written backwards, up to the end]
    {"nodes": [{"name", "kind": 0 file or 1 folder, "dataRegion", "children": {name: number}}]}

The last node is the root; its model.mlpackage runs in the evaluator of runtimes/coreml, and its
metadata.json says in which order the delegate's tensors are the package's. Where a program has
several methods the package has a function of each, is named data of the program, and a payload is
"CMJR" and a JSON of its key and function. Format: backends/apple/coreml/runtime/inmemoryfs and
compiler/coreml_preprocess.py of executorch 1.5.1.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgevlm.runtimes.executorch.evaluate.method import Payload
from edgevlm.runtimes.executorch.flatbuffer import BadFlatbuffer

if TYPE_CHECKING:
    from edgevlm.runtimes.coreml.mil_evaluator import MilProgram

__all__ = ["files_of", "opened"]

REFERENCE = b"CMJR"
PACKAGE, METADATA = "model.mlpackage", "metadata.json"
MOST_TREE, MOST_NODES, MOST_DEPTH = 1 << 20, 10_000, 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


def files_of(payload: bytes) -> dict[str, bytes]:
    """Files by their paths. Raises ValueError for what is no such payload, or would leave it."""
    text = payload[-MOST_TREE:][::-1].decode("utf-8", "replace")
    try:
        tree, _ = json.JSONDecoder().raw_decode(text)
        nodes = tree["nodes"]
        if not 0 < len(nodes) <= MOST_NODES:
            raise BadFlatbuffer(f"a payload of Core ML has {len(nodes)} files")
        return dict(_walk(payload, nodes, len(nodes) - 1, "", 0, set()))
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise BadFlatbuffer(f"a payload of Core ML has no tree of files: {error!r:.80}") from error


def opened(payload: bytes, named: Mapping[str, bytes]) -> tuple[int, Payload]:
    """How many tensors it takes, and what it computes. Raises ValueError, EV303, EV304."""
    method = None
    if payload.startswith(REFERENCE):
        key, method = _told(payload[len(REFERENCE) :], "key", "functionName")
        if key not in named:
            raise BadFlatbuffer(f"no package {key[:80]!r} of Core ML")
        payload = named[key]
    files = files_of(payload)
    ins, outs = _order(files.get(METADATA, b""), method)
    program, scratch = _program(files)
    name = method or next(iter(program.functions))
    function = program.functions.get(name)
    if function is None or not (set(ins), set(outs)) == (
        set(function.inputs),
        set(function.outputs),
    ):
        raise BadFlatbuffer("a package of Core ML has other tensors than its delegate")
    if function.states:
        raise BadFlatbuffer("a package of Core ML has states of its own")

    def run(given: Sequence[Tensor], _kept: object = scratch) -> list[Tensor]:
        """_kept: the folder goes when this function does."""
        feeds = {n: np.asarray(each) for n, each in zip(ins, given, strict=True)}
        made = program.call(name, feeds)
        return [torch.from_numpy(np.ascontiguousarray(made[each])) for each in outs]

    return len(ins), run


def _program(files: Mapping[str, bytes]) -> tuple[MilProgram, object]:
    """Opened, and the folder that its weights are read from."""
    from edgevlm.runtimes.coreml.mil_evaluator import MilProgram

    scratch = tempfile.TemporaryDirectory(prefix="edgevlm-coreml-")
    for path, data in files.items():
        if path.startswith(f"{PACKAGE}/"):
            file = Path(scratch.name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    program = MilProgram(Path(scratch.name, PACKAGE))
    program.check()
    return program, scratch


def _told(data: bytes, *keys: str) -> list[str]:
    told = json.loads(data)
    found = [told.get(key) for key in keys] if isinstance(told, dict) else [None]
    if not all(isinstance(each, str) for each in found):
        raise BadFlatbuffer("a payload of Core ML does not name its package")
    return found


def _order(data: bytes, method: str | None) -> tuple[list[str], list[str]]:
    """Names of its inputs and outputs, in the order of the delegate's tensors."""
    told = json.loads(data)
    if isinstance(told, dict) and method is not None:
        methods = told.get("methods")
        told = methods.get(method) if isinstance(methods, dict) else None
    if not isinstance(told, dict):
        raise BadFlatbuffer("a payload of Core ML does not name its inputs")
    ins, outs = told.get("inputNames"), told.get("outputNames")
    for names in (ins, outs):
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise BadFlatbuffer("a payload of Core ML does not name its inputs")
    return ins, outs


def _walk(
    payload: bytes, nodes: Sequence[Any], number: int, path: str, depth: int, seen: set[int]
) -> Iterator[tuple[str, bytes]]:
    """seen: nodes that were met; one in two folders would be there as often as ways lead to it."""
    if depth > MOST_DEPTH or not 0 <= number < len(nodes) or number in seen:
        raise BadFlatbuffer("a payload of Core ML has a tree that does not end")
    seen.add(number)
    node = nodes[number]
    if node["kind"] == 0:
        at, size = node["dataRegion"]["offset"], node["dataRegion"]["size"]
        if (
            type(at) is not int
            or type(size) is not int
            or at < 0
            or size < 0
            or at + size > len(payload)
        ):
            raise BadFlatbuffer(f"{path[:80]} of a payload of Core ML is cut off")
        yield path, payload[at : at + size]
        return
    for name, child in node["children"].items():
        # a child is behind its folder in no order; a number larger than the folder's would loop
        if NAME.fullmatch(name) is None or not isinstance(child, int) or child >= number:
            raise BadFlatbuffer(f"{name[:80]!r} is no file of a payload of Core ML")
        below = f"{path}/{name}" if path else name
        yield from _walk(payload, nodes, child, below, depth + 1, seen)
