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

SEEDS = range(4)
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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimise", [False, True], ids=["as it is", "optimised"])
def test_t9_every_session_chooses_the_same_and_so_it_does_again(asked, optimise, threads):
    placed, part, feeds, chosen = asked
    runs = session(part, optimise, threads)
    for fed, want in zip(feeds, chosen, strict=True):
        for _ in range(2):
            assert runs.run([placed.index], fed)[0].tolist() == want.tolist()


class OneHot(OpRun):
    """That of the package takes a depth of shape [] only; the operator takes [1] as well."""

    def _run(self, indices, depth, values, axis=None):
        off, on = values
        hot = np.arange(int(depth.reshape(()))) == indices[..., None]
        return (np.moveaxis(np.where(hot, on, off), -1, axis),)


def test_t9_numpy_chooses_the_same(asked):
    placed, part, feeds, chosen = asked
    numpy = ReferenceEvaluator(ir.to_proto(part), new_ops=[OneHot])
    for fed, want in zip(feeds, chosen, strict=True):
        index = numpy.run([placed.index], fed)[0]
        assert index.tolist() == want.tolist()


def test_another_process_and_hash_seed_give_the_same_bytes():
    """Every method at every site: nothing in a graph comes from the order of a set."""
    digests = []
    for seed in ("0", "4321"):
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(HELPERS)], capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        digests.append(json.loads(done.stdout))
    assert len(digests[0]) > 10 and digests[0] == digests[1]


BUILD = """
import hashlib, importlib.util, json, sys
from pathlib import Path
import onnx_ir as ir

def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

here = Path(sys.argv[1])
shared = load("shared", here.parents[1] / "conftest.py")
kit = load("kit", here / "kit.py")
model = shared.micro_vlm(layers=3, width=16, heads=4, kv_heads=2, grid=(4, 5), tower=3)
found = {}
for name, at in kit.EVERYWHERE:
    made = kit.put(model, name, at, 6).model
    for role, part in made.parts.items():
        data = ir.to_proto(part).SerializeToString(deterministic=True)
        found[f"{name}@{at}/{role}"] = hashlib.sha256(data).hexdigest()
print(json.dumps(found))
"""


def test_t9_can_fail(place):
    """Features that are random are told apart: another picture, another choice."""
    for at in ("connector-out", "vision-out", "vision:2", "llm:2"):
        placed = place("dart", at, KEEP)
        assert not np.array_equal(placed.choose(placed.rows(0)), placed.choose(placed.rows(1)))
