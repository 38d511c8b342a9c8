"""What a sweep is over, found out before any work: the model, the questions, the settings."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgevlm import __version__
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.sweep_grid import AXES, Point
from edgevlm.commands.sweep_record import Record, Settings
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.devices import find_device
from edgevlm.devices.host import describe_host, tool_versions
from edgevlm.models.datasets import CLASSIFIED, DATASETS, Dataset, load_dataset
from edgevlm.models.source import open_source
from edgevlm.passes.pipelines import compose
from edgevlm.runtimes import find_runtime

__all__ = [
    "OWN_DATASET",
    "SweepOptions",
    "check_values",
    "find_dataset",
    "find_source",
    "new_record",
]

#: bundled model -> the data set it is asked unless the caller names one
OWN_DATASET = {"easyvqa-tiny": "easy-vqa", "scenes-tiny": "scenes"}
NO_DATASET = "none"
METRICS = {
    "accuracy": "exact match of the greedy answer",
    "agreement": "probe answers as the source gives them",
}


@dataclass(frozen=True)
class SweepOptions:
    target: str
    out: Path
    over: Sequence[str]  # as `--over` takes them
    dataset: str | None = None  # None: the model's own, if it has one; "none": none
    split: str = "test"
    limit: int | None = None
    data_dir: Path | None = None
    n: int = 50  # timed requests a cell, and as many of the baseline in between
    warmup: int = 5
    baseline: bool = True
    keep_bundles: bool = False
    force: bool = False


def check_values(points: list[Point], options: SweepOptions) -> None:
    """Refuse before any work what no compile can take: a name misspelt, a method without a budget.

    Raises what `options_of` says of a value by itself, or of a point if it refuses all of them.
    """
    device = find_device(options.target)
    for key, value in dict.fromkeys(pair for point in points for pair in point.options):
        axis = AXES[key]
        budget = {"tokens": "1"} if axis.tokens else {}
        asked = options_of(device.id, options.out, **{**budget, axis.keyword: axis.read(value)})
        compose(device.id, device.runtime, replace(asked.flags, reduction=None))
    faults = []
    for point in points:
        try:
            options_of(device.id, options.out, **point.keywords)
        except UsageFault as fault:
            faults.append(fault)
    if faults and len(faults) == sum(not point.baseline for point in points):
        raise faults[0]


def find_source(model: str) -> ExportedModel:
    """Raises EV100-EV109 (no such model), EV323 (it answers no questions)."""
    source = open_source(model)
    if source.contract.kind != "vlm":
        raise JobFault(
            "EV323",
            f"{model} is a {source.contract.kind} model",
            "a sweep asks questions, and it answers none",
            f"edgevlm inspect {shlex.quote(model)}",
        )
    return source


def find_dataset(model: str, options: SweepOptions) -> Dataset | None:
    """The one that was named, or the model's own. Raises EV130-EV133, EV136, EV220."""
    name = options.dataset or OWN_DATASET.get(model, NO_DATASET)
    if name in CLASSIFIED:
        raise UsageFault(
            "EV136",
            f"--dataset {name} of a sweep",
            "a sweep asks questions, and this data set asks none",
            f"--dataset {' or '.join(n for n in DATASETS if n not in CLASSIFIED)}",
        )
    if name != NO_DATASET:
        return load_dataset(name, options.split, limit=options.limit, data_dir=options.data_dir)
    if options.limit is not None or options.data_dir is not None:
        raise UsageFault(
            "EV220",
            "--limit or --data without a data set",
            "then the probes are asked, all of them, and these would do nothing",
            "name one with --dataset, or leave them out",
        )
    return None


def new_record(
    source: ExportedModel, dataset: Dataset | None, points: list[Point], options: SweepOptions
) -> Record:
    """A sweep of which nothing is known yet but its settings. Raises EV301, EV302."""
    device = find_device(options.target)
    runtime = find_runtime(device.runtime)
    if not runtime.runs_here:
        raise UsageFault(
            "EV434",
            f"a sweep for {device.id}",
            "it times every setting, and this machine runs none of them as that device does",
            "--target cpu, and compile what it finds for the device",
        )
    toolchain = runtime.toolchain()
    host = describe_host()
    settings = Settings(
        edgevlm=__version__,
        model=source.source.name,
        source=source.source.digest,
        target=device.id,
        toolchain=toolchain,
        dataset=dataset.name if dataset else None,
        split=dataset.split if dataset else None,
        questions=_digest(dataset) if dataset else None,
        limit=options.limit if dataset else None,
        n=options.n,
        warmup=options.warmup,
        baseline=next((dict(p.options) for p in points if p.baseline), None),
        cpu_model=host.cpu_model,
        cores=host.cores,
    )
    over: dict[str, list[str]] = {}
    ordered = sorted(points, key=lambda p: p.baseline)  # the baseline lacks some of the axes
    for key, value in (pair for p in ordered for pair in p.options):
        if value not in over.setdefault(key, []):
            over[key].append(value)
    kind = "accuracy" if dataset else "agreement"
    return Record(
        schema=1,
        settings=settings,
        settings_digest=settings.digest,
        host=host.as_json(),
        tools=tool_versions(["edgevlm", *toolchain, "numpy", "pillow", "tokenizers"]),
        score=kind,
        metric=METRICS[kind],
        over=over,
    )


def _digest(dataset: Dataset) -> str:
    rows = [(row.question, row.answer, row.kind) for row in dataset.rows]
    return "sha256:" + hashlib.sha256(json.dumps(rows).encode()).hexdigest()
