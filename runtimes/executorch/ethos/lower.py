"""The job that lowers parts to an Ethos-U. Runs in the environment `ethos`; see run_job.

A .pt2 file of torch.export needs nothing of edgevlm to be read: the main environment and this one
have the same torch. The .pte holds no path and no date: the same part gives the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevlm.compiler.workshop.arrays import read_arrays, write_arrays
from edgevlm.runtimes.executorch.ethos.delegates import delegates_of, outside, refusals
from edgevlm.runtimes.executorch.ethos.quantise import adopt, call_flat, is_quantised, quantised
from edgevlm.runtimes.executorch.ethos.tosa import lowered_program, signature

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

__all__ = ["run"]

#: a fixed name: it is written into the .pte
_INTERMEDIATE = "intermediate"
_PACKAGES = ("torch", "executorch", "torchao", "ethos-u-vela", "tosa-tools")


def run(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Lower parts, one after the other; all files that are read and written lie in `folder`.

    request: {"parts": [...]}, for each
        name            stem of the files that are written
        runs            "device", or "host": by portable kernels, float, no more is asked then
        program         .pt2 of torch.export.save, static shapes
        target          as Vela names it: ethos-u55-128, ethos-u65-512, ethos-u85-256
        system_config, memory_mode   sections of Vela's Arm/vela.ini; null: ExecuTorch's choice
        samples         .npz of inputs, "SAMPLE.POSITION" each: what ranges are fitted to; null for
                        a program that is quantised
        checks          .npz of the same kind: what is run; null
        wide_ports      whether inputs and outputs have 16 bits; false where it is left out

    reply: {"parts": [...], "versions": {package: version}}, for each
        name
        pte, bytes      NAME.pte and its size
        quantised       whether it was done here
        delegates       [{"tosa", "summary", "layers": files, "nodes"}]; vela.py reads the tables
        outside         {op: {"nodes", "why"}} that stay on the CPU; why: the partitioner's words
        signature       of tosa.py, or null
        checks          .npz: "tosa.SAMPLE.POSITION" of the TOSA graphs, "qdq..." of torch; null
    """
    parts = []
    for each in request["parts"]:
        try:
            parts.append(_lowered(each, folder))
        except Exception as error:
            error.add_note(f"part {each['name']}")
            raise
    return {"parts": parts, "versions": {name: version(name) for name in _PACKAGES}}


def _lowered(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    import executorch.kernels.quantized  # noqa: F401  (ops that write into a buffer)
    import torch
    from executorch.backends.arm.ethosu import EthosUCompileSpec, EthosUPartitioner
    from executorch.exir import (
        EdgeCompileConfig,
        ExecutorchBackendConfig,
        to_edge_transform_and_lower,
    )

    name = request["name"]
    # by now executorch has registered quantized_decomposed: no such program is read without
    program = torch.export.load(folder / request["program"])
    config = EdgeCompileConfig(_check_ir_validity=False)
    if request.get("runs") == "host":
        made = to_edge_transform_and_lower(program, compile_config=config).to_executorch().buffer
        (folder / f"{name}.pte").write_bytes(made)
        return {"name": name, "pte": f"{name}.pte", "bytes": len(made), "quantised": False,
                "delegates": [], "outside": {}, "signature": None, "checks": None}  # fmt: skip
    spec = EthosUCompileSpec(
        request["target"],
        system_config=request.get("system_config"),
        memory_mode=request.get("memory_mode"),
    )
    shutil.rmtree(_INTERMEDIATE, ignore_errors=True)
    spec.dump_intermediate_artifacts_to(_INTERMEDIATE)
    ours = not is_quantised(program)
    if ours:
        samples = _samples(folder, request.get("samples"))
        program = quantised(program, spec, samples, request.get("wide_ports", False))
    else:
        adopt(program)
    with refusals() as refused:
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[EthosUPartitioner(spec)],
            compile_config=config,
        )
    lowered = edge.exported_program()
    # the file that Vela was given last is there as out.tosa, too
    graphs = [path for path in Path(_INTERMEDIATE).glob("*.tosa") if path.name != "out.tosa"]
    found = delegates_of(lowered, spec, graphs)
    reply = {
        "name": name,
        "pte": f"{name}.pte",
        "quantised": ours,
        "delegates": [_kept(each, folder, f"{name}.{i}") for i, each in enumerate(found)],
        "outside": outside(lowered, refused),
        "signature": signature(lowered),
        "checks": None,
    }
    if request.get("checks"):
        tosa_of = {each.program: each.tosa for each in found}
        rows = _compared(program, lowered, tosa_of, _samples(folder, request["checks"]))
        reply["checks"] = f"{name}.checks.npz"
        write_arrays(folder / reply["checks"], rows)
    shutil.rmtree(_INTERMEDIATE, ignore_errors=True)
    # last, for it edits the graph
    made = edge.to_executorch(config=ExecutorchBackendConfig(extract_delegate_segments=False))
    (folder / reply["pte"]).write_bytes(made.buffer)
    return reply | {"bytes": len(made.buffer)}


def _samples(folder: Path, name: str | None) -> list[list[Tensor]]:
    """[sample][position]; both are counted from 0 without a gap."""
    import torch

    if name is None:
        return []
    rows: dict[int, dict[int, np.ndarray]] = {}
    for key, array in read_arrays(folder / name).items():
        sample, _, position = key.partition(".")
        rows.setdefault(int(sample), {})[int(position)] = array
    return [
        [torch.from_numpy(rows[sample][at]) for at in range(len(rows[sample]))]
        for sample in range(len(rows))
    ]


def _compared(
    program: ExportedProgram,
    lowered: ExportedProgram,
    tosa_of: Mapping[bytes, bytes],
    samples: Sequence[Sequence[Tensor]],
) -> dict[str, np.ndarray]:
    """What the TOSA graphs and torch make of the same inputs."""
    import torch

    ours, theirs = lowered_program(lowered, tosa_of), program.module(check_guards=False)
    rows = {}
    for i, sample in enumerate(samples):
        with torch.no_grad():
            both = {"tosa": ours(sample), "qdq": call_flat(theirs, program, sample)}
        for side, outputs in both.items():
            rows |= {f"{side}.{i}.{at}": value.numpy() for at, value in enumerate(outputs)}
    return rows


def _kept(delegate: Any, folder: Path, stem: str) -> dict[str, Any]:
    """Files of one delegate under names of their own."""
    names = {kind: f"{stem}.{end}" for kind, end in
             (("tosa", "tosa"), ("summary", "summary.csv"), ("layers", "layers.csv"))}  # fmt: skip
    (folder / names["tosa"]).write_bytes(delegate.tosa)
    shutil.copyfile(delegate.summary, folder / names["summary"])
    shutil.copyfile(delegate.layers, folder / names["layers"])
    return {**names, "nodes": delegate.nodes}
