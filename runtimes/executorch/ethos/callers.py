"""Pieces of parts run on this host: NPU's graphs in Arm's reference model, the rest as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.workshop.worker import Worker, open_worker
from edgevlm.runtimes.executorch.ethos.told import Told, told_by

__all__ = ["TosaParts"]

WITHIN_S = 600.0


class TosaParts:
    """A PartCaller. Raises EV302 (no tool), EV304 (broken files), EV372, EV373."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        self.contract = contract
        self.pieces: dict[Role, list[Told]] = {a.role: told_by(a, folder) for a in artifacts}
        for role, pieces in self.pieces.items():
            _check_names(folder / artifacts[0].file, role, pieces, contract)
        asked = {}
        for role, pieces in self.pieces.items():
            for piece in pieces:
                files = [piece.program, *piece.files("tosa")]
                for file in files:
                    if not (folder / file).is_file():
                        raise unusable(folder / file, "it is missing")
                if piece.runs == "host":
                    asked[piece.name] = {"program": piece.program}
                elif len(files) == 2 and piece.signature:
                    asked[piece.name] = {"tosa": files[1], "signature": piece.signature}
                else:
                    raise unusable(folder / files[0], f"part {role} is not one graph of the NPU")
        self._worker: Worker = open_worker(
            "edgevlm.runtimes.executorch.ethos.tosa:open_pieces",
            {"pieces": asked},
            what="the parts of the NPU",
            tool="ethos",
            folder=folder,
            within_s=WITHIN_S,
        )

    def call(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307 with the reference model's words."""
        values = {name: np.asarray(value) for name, value in feeds.items()}
        for piece in self.pieces[role]:
            given = {str(i): values[name] for i, name in enumerate(piece.inputs)}
            made = self._worker.call(piece.name, given)
            if len(made) != len(piece.outputs):
                raise JobFault(
                    "EV307",
                    f"piece {piece.name} failed while it ran",
                    f"it gave {len(made)} arrays, where {len(piece.outputs)} were said",
                    "see whether the bundle is whole: edgevlm verify BUNDLE",
                )
            values |= {name: made[str(i)] for i, name in enumerate(piece.outputs)}
        wanted = [port.name for port in self.contract.outputs(role)]
        return {name: values[name] for name in wanted}


def _check_names(path: Path, role: Role, pieces: Sequence[Told], contract: Contract) -> None:
    """From piece to piece: what each reads was given, and all that is promised is in the end."""
    known = {port.name for port in contract.inputs(role)}
    for piece in pieces:
        if missing := set(piece.inputs) - known:
            raise unusable(path, f"piece {piece.name} of {role} reads {min(missing)}, from nowhere")
        known |= set(piece.outputs)
    if missing := {port.name for port in contract.outputs(role)} - known:
        raise unusable(path, f"no piece of {role} gives {min(missing)}")
