"""T9: the same choice, whoever computes it: with and without optimiser, threads, and by numpy.

The numpy one is the reference evaluator of the onnx package, which shares no code with the runtime.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

SEEDS = range(3)
KEEP = 6
HELPERS = Path(__file__).parent


def session(part, optimise, threads):
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    data = ir.to_proto(part).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@pytest.fixture
def asked(method_at, place):
    """(placed, its part, feeds of every seed, what it chose)"""
    placed = place(*method_at, KEEP)
    part = placed.model.parts[placed.role]
    taken = {str(v.name) for v in part.graph.inputs}
    rows = [placed.rows(seed) for seed in SEEDS]
    feeds = [{k: v for k, v in placed.feeds(r).items() if k in taken} for r in rows]
    return placed, part, feeds, [placed.choose(r) for r in rows]


def test_t9_every_session_chooses_the_same_and_so_it_does_again(asked):
    """Against one thread and no optimiser, which is what the kit asks."""
    placed, part, feeds, chosen = asked
    for optimise, threads in ((True, 2), (False, 2)):
        runs = session(part, optimise, threads)
        for fed, want in zip(feeds, chosen, strict=True):
            for _ in range(2):
                assert runs.run([placed.index], fed)[0].tolist() == want.tolist(), optimise


class OneHot(OpRun):
    """That of the package takes a depth of shape [] only; the operator takes [1] as well."""

    def _run(self, indices, depth, values, axis=None):
        off, on = values
        hot = np.arange(int(depth.reshape(()))) == indices[..., None]
        return (np.moveaxis(np.where(hot, on, off), -1, axis),)


def test_t9_numpy_chooses_the_same(asked):
    placed, part, feeds, chosen = asked
    numpy = ReferenceEvaluator(ir.to_proto(part), new_ops=[OneHot])
    index = numpy.run([placed.index], feeds[0])[0]
    assert index.tolist() == chosen[0].tolist()


def test_another_process_and_hash_seed_give_the_same_bytes(place):
    """Every method at every site: nothing in a graph comes from the order of a set."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(HELPERS)], capture_output=True, text=True,
        env={**os.environ, "PYTHONHASHSEED": "4321"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    kit = sys.modules["token_kit"]
    here = kit.digests(lambda *case: place(*case, KEEP))
    assert len(here) > 10 and json.loads(done.stdout) == here


BUILD = """
import importlib.util, json, sys
from pathlib import Path

def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

here = Path(sys.argv[1])
shared = load("shared", here.parents[1] / "conftest.py")
kit = load("kit", here / "kit.py")
sizes = {"width": 16, "heads": 4, "kv_heads": 2, "grid": (4, 5), "tower": 3}
models = {n: shared.micro_vlm(layers=n, **sizes) for n in (1, 3)}
put = lambda name, at: kit.put(models[kit.layers_for(at)], name, at, 6)
print(json.dumps(kit.digests(put)))
"""


def test_t9_can_fail(place):
    """Features that are random are told apart: another picture, another choice."""
    for at in ("connector-out", "vision-out", "vision:2", "llm:2"):
        placed = place("dart", at, KEEP)
        assert not np.array_equal(placed.choose(placed.rows(0)), placed.choose(placed.rows(1)))
