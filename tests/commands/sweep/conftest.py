"""Sweeps without a model: cells and records with the figures a test wants.

cell("prune=dart tokens=16", x=2.0, right=90)   done, 90 of 100 right, 2.0 times the baseline
record(cells)                                   a whole sweep.json of them
sweep("--over", ...)                            `edgevlm sweep` of the micro VLM into tmp_path/sweep
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from edgevlm.commands.sweep_record import Cell, Fault, Record, Settings, Share, Size, Timing


def make_cell(
    name: str, *, x: float = 1.0, right: int = 100, kept: int = 16, fault: str | None = None
) -> Cell:
    options = dict(word.split("=", 1) for word in name.split() if "=" in word)
    head = {"name": name, "options": options, "baseline": name.startswith("baseline")}
    if fault:
        lines = Fault(code=fault, what="a budget", why="too big", next="edgevlm compile ...")
        return Cell(**head, status="refused", fault=lines)
    share = Share(n=100, correct=right, accuracy=right / 100, low=right / 110, high=1.0)
    return Cell(
        **head,
        status="done",
        size=Size(kept=kept, of=64, average=float(kept), kv_bytes=1000 * kept, bundle_bytes=10),
        agreement=share,
        accuracy=share,
        timing=Timing(
            ttft_ms=2 * x, baseline_ms=2.0, ratio=x, low=x * 0.9, high=x * 1.1, decode_ms=0.5,
            stages={"vision": x, "prefill": x}, load=0.5, n=10,
        ),
    )  # fmt: skip


def make_record(*cells: Cell, **settings: object) -> Record:
    given = {
        "edgevlm": "0.1.0", "model": "m", "source": "sha256:0", "target": "host-cpu",
        "toolchain": {}, "dataset": "d", "split": "test", "questions": "sha256:1", "limit": None,
        "n": 10, "warmup": 1, "baseline": {}, "cpu_model": "a machine", "cores": 2,
    }  # fmt: skip
    its = Settings(**{**given, **settings})
    return Record(
        schema=1, settings=its, settings_digest=its.digest, host={}, tools={}, score="accuracy",
        metric="right answers", over={}, cells=cells,
    ).placed()  # fmt: skip


@pytest.fixture(scope="session")
def cell():
    return make_cell


@pytest.fixture(scope="session")
def record():
    return make_record


@pytest.fixture(autouse=True)
def few_objects() -> Iterator[None]:
    """A compile collects garbage after every pass; what test tools have loaded is none."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def sweep(edgevlm, micro_folder, tmp_path, monkeypatch):
    """Calls with a few requests only; the micro VLM has 9 image tokens, 3 probes, no data set.

    Without `plot=True` the plot, half a second each, is left out as it is without matplotlib.
    """

    def call(*args: object, n: int = 3, model: object = micro_folder, plot: bool = False):
        with monkeypatch.context() as patch:
            if not plot:
                patch.setattr("edgevlm.commands.sweep.draw", lambda record, folder: [])
            return edgevlm(
                "sweep", model, "--target", "cpu", "-n", n, "-o", tmp_path / "sweep", *args,
                "--json",
            )  # fmt: skip

    return call
