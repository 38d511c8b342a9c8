"""Parts -> pieces -> the job that lowers them -> files of a bundle (main environment).

A part of which integers leave less than LEAST_DB of its float graph is not worth an NPU: it is the
host's as a whole, in float, by portable kernels, and the bundle says so.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.pieces import Piece
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.to_torch.exported import exported_graph
from edgevlm.compiler.workshop.arrays import read_arrays, write_arrays
from edgevlm.compiler.workshop.job import run_job
from edgevlm.runtimes.executorch.ethos.cut import DIALECT, Runs, cut, runs_of, without_padding
from edgevlm.runtimes.executorch.ethos.rows import even_rows
from edgevlm.runtimes.executorch.ethos.told import FOLDER, Told

__all__ = ["LEAST_DB", "asked_of", "make", "run_lowering"]

CHECKS = 16  # runs that the reference model repeats
#: dB; of the graph that Vela is given to what was quantised: the same integers, but for ties. Those
#: add up: behind four layers a whole prompt has 94, 40, 36 and 27 dB. So a graph under that may be
#: no further from float than what was quantised is, but for TIES_DB
SAME_DB, TIES_DB = 30.0, 3.0
#: dB; of integers to the float graph, the worst output and run: error is a sixteenth of the power
LEAST_DB = 12.0
WITHIN_S = 3600.0
KINDS = 4  # of ops that a refusal names


def make(model: ExportedModel, seen: Reference, target: str, folder: Path) -> list[Artifact]:
    """seen: what ranges are fitted to. target: as Vela names it.

    Raises EV212 (an op that torch has not), EV309 (ops that the NPU lacks), EV305 (another graph
    than what was quantised), EV372, EV373 (the job).
    """
    (folder / FOLDER).mkdir()
    with tempfile.TemporaryDirectory(prefix="edgevlm-ethos-") as scratch:
        work = Path(scratch)
        pieces = {role: cut(role, part) for role, part in model.parts.items()}
        fitted: dict[str, Runs] = {}
        checks: dict[str, Runs] = {}
        for role, some in pieces.items():
            fitted |= runs_of(some, [without_padding(each) for each in seen.fed(role)])
            checks |= runs_of(some, seen.fed(role)[:CHECKS])
        asked = [asked_of(p, fitted[p.name], checks[p.name], target, work) for p in _all(pieces)]
        made = run_lowering(asked, target, work)
        sqnr = {
            p.name: _judged(p, made[p.name], checks[p.name], target, work) for p in _all(pieces)
        }
        left: dict[Role, float] = {}
        for role, some in pieces.items():
            worst = min((sqnr[p.name] for p in some if p.runs == "device"), default=LEAST_DB)
            if not worst >= LEAST_DB:
                left[role] = round(worst, 1)
                pieces[role] = [Piece(role, "host", model.parts[role])]
        again = [asked_of(pieces[role][0], Runs(), Runs(), target, work) for role in left]
        made |= run_lowering(again, target, work) if again else {}
        return [
            _artifact(role, [_kept(p, made[p.name], sqnr, work, folder) for p in some],
                      {"int8_db": left[role]} if role in left else {}, made)
            for role, some in pieces.items()
        ]  # fmt: skip


def _all(pieces: Mapping[Role, Sequence[Piece]]) -> list[Piece]:
    return [piece for some in pieces.values() for piece in some]


def run_lowering(asked: Sequence[Mapping[str, Any]], target: str, work: Path) -> dict[str, Any]:
    """Its replies by the name of the piece; each knows the versions."""
    reply = run_job(
        "edgevlm.runtimes.executorch.ethos.lower:run",
        {"parts": asked},
        what=f"lowering to {target}",
        tool="ethos",
        folder=work,
        within_s=WITHIN_S,
    )
    return {row["name"]: row | {"versions": reply["versions"]} for row in reply["parts"]}


def asked_of(
    piece: Piece, fitted: Runs, checks: Runs, target: str, work: Path, as_is: bool = False
) -> dict[str, Any]:
    """One line of the job's request; its files are written. as_is: uneven rows stay uneven."""
    even = None if as_is or piece.runs == "host" else even_rows(piece, fitted)
    program = exported_graph((even or piece).part, DIALECT)
    torch.export.save(program, work / f"{piece.name}.pt2")
    asked = {"name": piece.name, "program": f"{piece.name}.pt2", "target": target}
    if piece.runs == "host":
        return asked | {"runs": "host"}
    for kind, some in (("samples", fitted.inputs), ("checks", checks.inputs)):
        rows = {f"{i}.{at}": x for i, run in enumerate(some) for at, x in enumerate(run)}
        asked[kind] = f"{piece.name}.{kind}.npz"
        write_arrays(work / asked[kind], rows)
    return asked | {"runs": "device", "wide_ports": even is not None}


def _judged(
    piece: Piece, row: Mapping[str, Any], checks: Runs, target: str, work: Path
) -> float | None:
    """dB of its worst output in its worst run to float, as Arm's reference model computes it.

    None on the host.
    """
    if piece.runs == "host":
        return None
    _refuse_rest(piece.name, row, target)
    rows = read_arrays(work / row["checks"])
    checked = range(len(checks.outputs))
    found = []
    for at in range(len(piece.outputs)):
        tosa, qdq = ([rows[f"{side}.{i}.{at}"] for i in checked] for side in ("tosa", "qdq"))
        exact = np.stack([checks.outputs[i][at] for i in checked])
        same = measure(np.stack(qdq), np.stack(tosa), piece.name).sqnr_db
        mine, theirs = (measure(exact, np.stack(s), piece.name).sqnr_db for s in (tosa, qdq))
        if not (same >= SAME_DB or mine >= theirs - TIES_DB):
            raise JobFault(
                "EV305",
                f"the TOSA graph of {piece.name} is another than what was quantised",
                f"SQNR {same:.1f} dB at output {at}, under {SAME_DB:.0f} dB",
                "please report this, with the model and edgevlm doctor",
            )
        found += [measure(checks.outputs[i][at], tosa[i], piece.name).sqnr_db for i in checked]
    return min(found)


def _refuse_rest(name: str, row: Mapping[str, Any], target: str) -> None:
    """A part that falls back to the CPU of a microcontroller is no part for an NPU."""
    if not row["outside"] and row["signature"] is not None:
        return
    ops = [
        f"{each['nodes']} {op.removeprefix('aten.').removesuffix('.default')}"
        + (f" ({each['why']})" if each["why"] else "")
        for op, each in row["outside"].items()
    ]
    more = f" and {len(ops) - KINDS} more kinds" if len(ops) > KINDS else ""
    raise JobFault(
        "EV309",
        f"{target} does not take all of {name}: it would be cut into {len(row['delegates'])}",
        "; ".join(ops[:KINDS]) + more if ops else "what comes back to the CPU is no int8",
        "where a pass can remove such an op (one-hot-tokens, four-axes, unfold-patches), add it to "
        "the recipe; an Ethos-U85 takes more: --target ethos-u85-256",
    )


def _kept(
    piece: Piece,
    row: Mapping[str, Any],
    sqnr: Mapping[str, float | None],
    work: Path,
    folder: Path,
) -> Told:
    told = Told(
        name=piece.name,
        runs=piece.runs,
        inputs=tuple(port.name for port in piece.inputs),
        outputs=tuple(port.name for port in piece.outputs),
        delegates=len(row["delegates"]),
        signature=row["signature"],
        sqnr_db=round(sqnr[piece.name], 1) if piece.runs == "device" else None,
    )
    shutil.copyfile(work / row["pte"], folder / told.program)
    for delegate in row["delegates"]:
        for name in (delegate["tosa"], delegate["summary"], delegate["layers"]):
            shutil.copyfile(work / name, folder / FOLDER / name)
    return told


def _artifact(
    role: Role, told: Sequence[Told], more: Mapping[str, Any], made: Mapping[str, Any]
) -> Artifact:
    main = next((each for each in told if each.runs == "device"), told[0])
    settings = {
        "pieces": [each.model_dump(mode="json") for each in told],
        "versions": made[main.name]["versions"],
        **more,
    }
    return Artifact(role=role, file=main.program, settings=settings)
