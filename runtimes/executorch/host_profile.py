"""Methods of a .pte, run on this host with the event tracer on: an ETDump of each, and rows of it.

The pybindings of the wheel have the tracer built in, and XNNPACK's own profiler. Every method has
the program to itself: its runs are then its own beyond doubt, and one method's weights at a time
are in memory, as its kernels want them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.quiet import quietly
from edgevlm.runtimes.executorch.etdump import parse_etdump
from edgevlm.runtimes.executorch.nodes import Nodes
from edgevlm.runtimes.executorch.op_rows import rows_of
from edgevlm.runtimes.executorch.profile_rows import EtProfile
from edgevlm.runtimes.executorch.program import read_program

__all__ = ["profile_here", "profile_methods", "trace_here"]

WARM_UP = 3
#: of an input, as a program numbers its types (ScalarType of ExecuTorch) -> as torch names them
TYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32",
         7: "float64", 11: "bool", 15: "bfloat16"}  # fmt: skip

#: what a method is fed, by what the program says of it
Fed = Callable[[Any], Sequence[Any]]


def _zeros(method: str, about: Any) -> list[Any]:
    """A torch tensor for each input of a method; about: its MethodMeta. Ids and places are 0.

    But for the last place of a prompt, the third input of prefill: where decoder layers drop image
    tokens, 0 lies in front of all that is left.
    """
    import torch

    told = (about.input_tensor_meta(i) for i in range(about.num_inputs()))
    found = [
        torch.zeros(tuple(each.sizes()), dtype=getattr(torch, TYPES[each.dtype()])) for each in told
    ]
    if method == "prefill":
        rows, last = found[0].shape[1], found[2]
        last.fill_(rows - 1)
    return found


def trace_here(
    program: Path, inputs: Sequence[Any] | Fed, runs: int, method: str, data: Path | None = None
) -> bytes:
    """The ETDump of so many runs; inputs: torch tensors. Needs executorch; raises RuntimeError."""
    from executorch.runtime import Runtime

    opened = Runtime.get().load_program(program, enable_etdump=True, data_path=data)
    given = inputs(opened.metadata(method)) if callable(inputs) else list(inputs)
    run = opened.load_method(method)
    for _ in range(runs):
        run.execute(given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.etdp"
        opened.write_etdump_result_to_file(str(path), str(path.with_suffix(".debug")))
        return path.read_bytes()


def profile_here(
    program: Path,
    inputs: Sequence[Any],
    runs: int,
    method: str,
    *,
    warm_up: int = WARM_UP,
    nodes: Nodes | None = None,
) -> EtProfile:
    """Raises EV360, and RuntimeError for what the runtime refuses."""
    dump = trace_here(program, inputs, runs + warm_up, method)
    return rows_of(
        parse_etdump(dump), read_program(program), method=method, skip=warm_up, nodes=nodes
    )


def profile_methods(
    program: Path,
    methods: Sequence[str],
    runs: int,
    *,
    warm_up: int = WARM_UP,
    nodes: Nodes | None = None,
) -> EtProfile:
    """Each on zeros, one behind the other. Raises EV360, EV307 with ExecuTorch's reason."""
    made, found, loads = read_program(program), [], []
    for method in methods:
        try:
            with quietly():
                dump = trace_here(program, partial(_zeros, method), runs + warm_up, method)
        except (RuntimeError, KeyError) as error:
            raise JobFault(
                "EV307",
                f"method {method} of {program.name} failed while it ran",
                (str(error).strip().splitlines() or [type(error).__name__])[0][:300],
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error
        blocks = parse_etdump(dump, f"the ETDump of {method}")
        one = rows_of(blocks, made, method=method, skip=warm_up, nodes=nodes)
        found += one.methods
        loads += one.loads_ms
    return EtProfile(tuple(found), tuple(loads))
