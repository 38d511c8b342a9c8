"""How long a package takes on a Mac, or an iPhone at it: MLModelBenchmarker, asked for and read.

Loads and predictions are timed by Core ML on the device that runs them. Times of single ops are
not: coremltools multiplies the time of a prediction by the share that MLComputePlan estimates
(`benchmark_operation_execution` of coremltools.models.ml_program.experimental.perf_utils), so they
are labelled estimated-mlcomputeplan and never measured.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.runtimes.coreml.compute_plan import MOST_BYTES, Device, Units
from edgevlm.runtimes.coreml.mac import Run, said, this_mac, unreadable

__all__ = ["Benchmark", "OpTime", "Phone", "benchmark", "parse_benchmark"]

Milliseconds = Annotated[float, Field(gt=0, le=3_600_000, allow_inf_nan=False)]


@dataclass(frozen=True)
class Phone:
    """An iPhone at the Mac, and who signs the app that coremltools builds for it.

    udid: of the phone. team or profile: of the developer account; bundle: an app identifier.
    """

    udid: str
    team: str | None = None
    profile: str | None = None
    bundle: str | None = None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OpTime(_Strict):
    how: ClassVar[str] = "estimated-mlcomputeplan"
    op: str = Field(max_length=4000)
    type: str = Field(max_length=200)
    preferred: Device
    ms: float = Field(ge=0, allow_inf_nan=False)


class Benchmark(_Strict):
    """Samples in ms, in the order of runs; the first prediction is a warm-up and not among them."""

    how: ClassVar[str] = "measured-device"
    schema_: Literal[1] = Field(alias="schema")
    coremltools: str = Field(max_length=100)
    macos: str = Field(max_length=100)
    machine: str = Field(max_length=200)
    units: Units
    function: str | None = Field(max_length=1000)
    load_ms: list[Milliseconds] = Field(min_length=1, max_length=100_000)
    predict_ms: list[Milliseconds] = Field(min_length=1, max_length=1_000_000)
    ops: list[OpTime] = Field(max_length=1_000_000)

    @property
    def predict_median_ms(self) -> float:
        return median(self.predict_ms)


def benchmark(
    path: str,
    run: Run | None = None,
    function: str | None = None,
    units: Units = "CPU_AND_NE",
    loads: int = 3,
    runs: int = 20,
    phone: Phone | None = None,
) -> Benchmark:
    """path: of a package there. run: a Mac; None is this machine. Raises EV380, EV381, EV382."""
    asked = {
        "model": path,
        "function": function,
        "units": units,
        "loads": loads,
        "runs": runs,
        "phone": asdict(phone) if phone else None,
    }
    return parse_benchmark(said(run or this_mac(), "benchmark", [json.dumps(asked)]))


def parse_benchmark(data: bytes) -> Benchmark:
    """What scripts/benchmark.py printed. Raises EV381."""
    if len(data) > MOST_BYTES:
        raise unreadable("a benchmark", f"more than {MOST_BYTES >> 20} MiB")
    try:
        found = Benchmark.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise unreadable("a benchmark", f"{where}: {first['msg']}") from error
    if any(op.ms > max(found.predict_ms) * 1.01 for op in found.ops):
        raise unreadable("a benchmark", "an op takes longer than the whole, of which it is a share")
    return found
