"""What is made of the job's reply: what is refused, and what the host gets."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.pieces import Piece
from edgevlm.compiler.workshop.arrays import write_arrays

pytest.importorskip("torch", reason="programs need: pip install 'edgevlm[torch]'")

from edgevlm.runtimes.executorch.ethos import make as module
from edgevlm.runtimes.executorch.ethos.cut import Runs
from edgevlm.runtimes.executorch.ethos.told import told_by

RNG = np.random.default_rng(0)
DONE = {"outside": {}, "signature": {"inputs": [], "outputs": []}, "delegates": [{}]}


@pytest.fixture
def piece(graph):
    part = graph("(float[1,4] x) => (float[1,4] y, float[1,4] z) { y = Relu(x) z = Neg(x) }")
    return Piece("vision", "device", part)


def judged(piece, tmp_path, tosa, qdq=None, exact=None):
    """tosa, qdq, exact: [run][output]."""
    qdq, exact = qdq or tosa, exact or tosa
    rows = {
        f"{side}.{i}.{at}": value
        for side, runs in (("tosa", tosa), ("qdq", qdq))
        for i, run in enumerate(runs)
        for at, value in enumerate(run)
    }
    write_arrays(tmp_path / "c.npz", rows)
    row = DONE | {"checks": "c.npz"}
    return module._judged(piece, row, Runs(outputs=exact), "ethos-u85-256", tmp_path)


def some(n=2):
    return [[RNG.normal(size=(1, 4)).astype(np.float32) for _ in range(2)] for _ in range(n)]


def test_the_worst_output_of_the_worst_run_counts(piece, tmp_path):
    exact = some(3)
    tosa = [list(outputs) for outputs in exact]
    tosa[1][1] = exact[1][1] + 0.1 * np.sqrt(np.mean(exact[1][1] ** 2))
    assert judged(piece, tmp_path, tosa, exact=exact) == pytest.approx(20, abs=0.01)
    assert judged(piece, tmp_path, exact) == 200


def test_another_graph_than_what_was_quantised_is_refused(piece, tmp_path):
    qdq = some()
    tosa = [[y, 0.9 * z] for y, z in qdq]
    with pytest.raises(JobFault, match="EV305 the TOSA graph of vision") as caught:
        judged(piece, tmp_path, tosa, qdq=qdq, exact=qdq)
    assert "20.0 dB at output 1" in caught.value.why


def test_ties_that_add_up_are_no_other_graph(piece, tmp_path):
    """28 dB apart, and both as far from float: who is right is chance."""
    exact = [[RNG.normal(size=(1, 4000)).astype(np.float32) for _ in range(2)]]
    off = [RNG.normal(size=(2, 1, 4000)).astype(np.float32) * 0.028 for _ in range(2)]
    tosa, qdq = ([[x + e for x, e in zip(exact[0], each, strict=True)]] for each in off)
    assert judged(piece, tmp_path, tosa, qdq=qdq, exact=exact) == pytest.approx(31, abs=0.5)
    worse = [[x + 3 * e for x, e in zip(exact[0], off[0], strict=True)]]
    with pytest.raises(JobFault, match="EV305"):
        judged(piece, tmp_path, worse, qdq=qdq, exact=exact)


def test_not_a_number_is_refused(piece, tmp_path):
    qdq = some()
    tosa = [[y, z * np.nan] for y, z in qdq]
    with pytest.raises(JobFault, match="EV305"):
        judged(piece, tmp_path, tosa, qdq=qdq, exact=qdq)


def test_an_op_that_stays_outside_is_named_with_its_reason(piece, tmp_path):
    row = DONE | {
        "outside": {
            "aten.bmm.default": {"nodes": 2, "why": "no product of two inputs"},
            "aten.topk.default": {"nodes": 1, "why": None},
        },
        "delegates": [{}, {}, {}],
    }
    with pytest.raises(JobFault) as caught:
        module._judged(piece, row, Runs(), "ethos-u55-128", tmp_path)
    fault = caught.value
    assert fault.code == "EV309"
    assert fault.what == "ethos-u55-128 does not take all of vision: it would be cut into 3"
    assert fault.why == "2 bmm (no product of two inputs); 1 topk"
    assert "ethos-u85-256" in fault.fix and "one-hot-tokens" in fault.fix


def test_what_does_not_come_back_as_integers_is_refused_too(piece, tmp_path):
    with pytest.raises(JobFault, match="no int8"):
        module._judged(piece, DONE | {"signature": None}, Runs(), "ethos-u55-128", tmp_path)


def test_of_the_host_nothing_is_asked(piece, tmp_path):
    host = Piece("embed", "host", piece.part)
    assert module._judged(host, {}, Runs(), "ethos-u85-256", tmp_path) is None


PIECE = {"name": "vision", "runs": "device", "inputs": ["x"], "outputs": ["y"], "delegates": 1,
         "signature": {}}  # fmt: skip


def artifact(*pieces):
    return Artifact(role="vision", file="ethos/vision.pte", settings={"pieces": list(pieces)})


def test_files_of_a_piece_follow_from_its_name(tmp_path):
    (told,) = told_by(artifact(PIECE), tmp_path)
    assert told.program == "ethos/vision.pte" and told.files("tosa") == ["ethos/vision.0.tosa"]


@pytest.mark.parametrize(
    "piece",
    [
        PIECE | {"name": "../vision"},
        PIECE | {"name": "Vision"},
        PIECE | {"name": ""},
        PIECE | {"delegates": 10**9},
        PIECE | {"delegates": -1},
        PIECE | {"runs": "elsewhere"},
        PIECE | {"more": 1},
        {},
        "vision",
        None,
    ],
)
def test_a_manifest_that_lies_is_refused(piece, tmp_path):
    with pytest.raises(JobFault, match="EV304"):
        told_by(artifact(piece), tmp_path)
    with pytest.raises(JobFault, match="EV304"):
        told_by(Artifact(role="vision", file="ethos/vision.pte"), tmp_path)
