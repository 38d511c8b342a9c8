"""What profilers of phones read: recorded of executorch 1.5.1 on an x86-64 host, or synthetic.

recorded/   NAME.etdp of three runs, NAME.program, NAME.nodes.json; written by micro/tiny_pte.py
samples/    texts of Qualcomm's programs; each says in itself whose it is
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from micro.tiny_pte import lower

from edgevlm.runtimes.executorch.etdump import read_etdump
from edgevlm.runtimes.executorch.nodes import Nodes, read_nodes
from edgevlm.runtimes.executorch.op_rows import rows_of
from edgevlm.runtimes.executorch.program import read_program

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def recorded():
    """Path of a recorded file."""
    return lambda name: HERE / "recorded" / name


@pytest.fixture(scope="session")
def sample():
    return lambda name: HERE / "samples" / name


@pytest.fixture(scope="session")
def profile_of(recorded):
    """Rows of a recorded ETDump, as a bundle would have them."""

    def read(kind: str, **how):
        return rows_of(
            read_etdump(recorded(f"{kind}.etdp")),
            read_program(recorded(f"{kind}.program")),
            nodes=read_nodes(recorded(f"{kind}.nodes.json")),
            **how,
        )

    return read


class Block(NamedTuple):
    path: Path
    inputs: dict
    nodes: Nodes


@pytest.fixture(scope="session")
def lowered():
    """lowered(kind): the tiny block of micro/tiny_pte.py as executorch makes it now."""
    for name, brings in (("torch", "torch"), ("executorch", "executorch"), ("torchao", "torchao")):
        pytest.importorskip(name, reason=f"no {brings}: pip install 'edgevlm[executorch]'")
    return lower


@pytest.fixture(scope="session")
def block(lowered, tmp_path_factory):
    """In float, as a file."""
    made = lowered("fp32")
    path = tmp_path_factory.mktemp("executorch") / "fp32.pte"
    path.write_bytes(made.pte)
    return Block(path, made.inputs, made.nodes)
