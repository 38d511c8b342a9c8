"""One run of Vela and the TOSA reference model, for all tests of all processes.

lowered     both programs of micro/ethos.py, lowered for an ethos-u85-256 by the tool `ethos`: its
            `folder`, `parts` (the job's replies by name), `floats` (what torch makes of the float
            block here)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from micro.once import made_once, need_tool

from edgevlm.compiler.workshop.arrays import read_arrays, write_arrays
from edgevlm.compiler.workshop.job import run_job

TARGET, SAMPLES, CHECKS = "ethos-u85-256", 8, 4
WORK = "a lowering"  # Vela's arguments are cut at spaces


@dataclass(frozen=True)
class Lowered:
    folder: Path
    parts: dict[str, dict[str, Any]]
    versions: dict[str, str]
    floats: list[np.ndarray]

    def checks(self, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """(by the TOSA graphs, by torch) of each check."""
        found = read_arrays(self.folder / self.parts[name]["checks"])
        return [(found[f"tosa.{i}.0"], found[f"qdq.{i}.0"]) for i in range(CHECKS)]


@pytest.fixture(scope="session")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    pytest.importorskip("torch", reason="the programs need: pip install 'edgevlm[torch]'")
    need_tool("ethos")
    home = made_once(tmp_path_factory, "ethos", _lower)
    folder, told = home / WORK, json.loads((home / "reply.json").read_text())
    floats = read_arrays(folder / "floats.npz")
    return Lowered(
        folder,
        dict(zip(("block", "cut"), told["parts"], strict=True)),
        told["versions"],
        [floats[str(i)] for i in range(CHECKS)],
    )


def _lower(home: Path) -> None:
    import torch
    from micro.ethos import Block, Cut, export_to, inputs

    folder = home / WORK
    folder.mkdir()
    block = export_to(folder / "block.pt2", Block)
    export_to(folder / "cut.pt2", Cut)
    checks = inputs(CHECKS, seed=2)
    for name, arrays in (("samples", inputs(SAMPLES, seed=1)), ("inputs", checks)):
        write_arrays(folder / f"{name}.npz", {f"{i}.0": x for i, x in enumerate(arrays)})
    with torch.no_grad():
        floats = [block(torch.from_numpy(x)).numpy() for x in checks]
    write_arrays(folder / "floats.npz", {str(i): x for i, x in enumerate(floats)})
    common = {"target": TARGET, "checks": "inputs.npz"}
    parts = [
        {"name": "block", "program": "block.pt2", "samples": "samples.npz", **common},
        {"name": "cut", "program": "cut.pt2", "samples": None, **common},
    ]
    reply = run_job(
        "edgevlm.runtimes.executorch.ethos.lower:run",
        {"parts": parts},
        what="lowering to an Ethos-U",
        tool="ethos",
        folder=folder,
        within_s=600,
    )
    (home / "reply.json").write_text(json.dumps(reply))
