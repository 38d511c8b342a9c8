"""A method of a .pte, run on this host with the event tracer on: its ETDump, and rows of it.

The pybindings of the wheel have the tracer built in, and XNNPACK's own profiler.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevlm.runtimes.executorch.etdump import parse_etdump
from edgevlm.runtimes.executorch.nodes import Nodes
from edgevlm.runtimes.executorch.op_rows import rows_of
from edgevlm.runtimes.executorch.profile_rows import EtProfile
from edgevlm.runtimes.executorch.program import read_program

__all__ = ["profile_here", "trace_here"]


def trace_here(
    program: Path, inputs: Sequence[Any], runs: int, method: str, data: Path | None = None
) -> bytes:
    """The ETDump of so many runs; inputs: torch tensors. Needs executorch; raises RuntimeError."""
    from executorch.extension.pybindings import portable_lib

    opened = portable_lib._load_for_executorch(
        str(program), data_path=str(data) if data else None, enable_etdump=True
    )
    for _ in range(runs):
        opened.run_method(method, tuple(inputs))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.etdp"
        opened.write_etdump_result_to_file(str(path))
        return path.read_bytes()


def profile_here(
    program: Path,
    inputs: Sequence[Any],
    runs: int,
    method: str,
    *,
    warm_up: int = 3,
    nodes: Nodes | None = None,
) -> EtProfile:
    """Raises EV360, and RuntimeError for what the runtime refuses."""
    dump = trace_here(program, inputs, runs + warm_up, method)
    return rows_of(
        parse_etdump(dump), read_program(program), method=method, skip=warm_up, nodes=nodes
    )
