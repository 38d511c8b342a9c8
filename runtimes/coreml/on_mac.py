"""A package as parts, run by Core ML itself: on a Mac alone.

    predict(inputs, state)    one call of a function; prefill and decode are handed the same state
    read_state, write_state   caches, as coremltools 9 fetches and puts them

One state serves both functions since both declare the same caches; coremltools' guide for language
models does the same: https://github.com/apple/coremltools/pull/2686. Written after coremltools'
source and documentation, and run against a stand-in for them; no Mac has run it.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.held_state import StateParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.coreml.benchmark import parse_benchmark
from edgevlm.runtimes.coreml.mil_functions import read_functions
from edgevlm.runtimes.coreml.mlpackage import broken, open_mlpackage
from edgevlm.runtimes.coreml.package import coremltools
from edgevlm.runtimes.coreml.ports import as_promised, promised_outputs
from edgevlm.runtimes.coreml.scripts.benchmark import timed
from edgevlm.runtimes.times import LayerTime

__all__ = ["UNITS", "CoremlParts", "op_times"]

#: Core ML may use all but the GPU, as an app does that leaves that to the screen
UNITS = "CPU_AND_NE"


class CoremlParts(StateParts):
    """Raises EV302 (no coremltools), EV304 (broken, other functions, or Core ML refuses it)."""

    def __init__(
        self,
        folder: Path,
        artifacts: Sequence[Artifact],
        contract: Contract,
        units: str = UNITS,
    ) -> None:
        super().__init__(contract)
        path, tools = (folder / artifacts[0].file).parent, coremltools()
        functions = read_functions(open_mlpackage(path))
        self.outputs = promised_outputs(path, functions, artifacts, contract)
        self.stateful = {role for role in self.outputs if functions[role].states}
        try:
            self.models = {role: _loaded(tools, path, units, role) for role in self.outputs}
            first = next((role for role in self.models if role in self.stateful), None)
            self.state: Any = self.models[first].make_state() if first else None
        except Exception as error:  # Core ML's own are RuntimeError, coremltools' plain Exception
            raise broken(path, f"Core ML does not load it: {_reason(error)}") from error

    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307 with Core ML's reason."""
        given = {name: _narrow(np.asarray(array)) for name, array in feeds.items()}
        state = self.state if role in self.stateful else None
        try:
            made = self.models[role].predict(given, state)
            return {p.name: as_promised(p, made[p.name]) for p in self.outputs[role]}
        except Exception as error:
            raise JobFault(
                "EV307",
                f"artifact {role} failed while it ran",
                _reason(error),
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error

    def read(self, name: str) -> np.ndarray:
        port = next(p for p in self.contract.inputs("decode") if p.name == f"past_{name}")
        return as_promised(port, self.state.read_state(name))

    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        for name, array in caches.items():
            self.state.write_state(name, np.asarray(array).astype(np.float16))


def _loaded(tools: Any, path: Path, units: str, role: Role) -> Any:
    """coremltools keeps Core ML's reason to itself, and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tools.models.MLModel(
            str(path), compute_units=tools.ComputeUnit[units], function_name=role
        )
    if model.__proxy__ is None:
        why = "its specification is of a later macOS"
        raise model._framework_error or RuntimeError(why)
    return model


def op_times(package: Path, role: Role, runs: int) -> list[LayerTime]:
    """Single ops, as this Mac estimates them; in the order of the program. Raises EV302."""
    tools = coremltools()
    from coremltools.models.ml_program.experimental import perf_utils

    asked = {"model": str(package), "function": role, "units": UNITS, "loads": 1, "runs": runs,
             "phone": None}  # fmt: skip
    told = parse_benchmark(json.dumps(asyncio.run(timed(tools, perf_utils, asked))).encode())
    return [LayerTime(role, op.op, op.type, op.preferred, op.ms, op.how) for op in told.ops]


def _narrow(array: np.ndarray) -> np.ndarray:
    """Core ML has float32 and int32 at its ports; what is float16 there, coremltools converts."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(np.int32)


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
