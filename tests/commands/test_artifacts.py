"""How far an artifact may stray: from graphs that round, as far as they stray from themselves."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.commands.artifacts import LEAST_DB, ROUNDING_FLOOR_DB, check_artifacts
from edgevlm.commands.writing import Proof
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.rounding_noise import rounding_noise
from edgevlm.runtimes import find_runtime

STEP = 0.25


@pytest.fixture
def rounding(solo, graph):
    """code -> (a model that rounds numbers so near to `code` steps, what it is fed)."""

    def make(code: float) -> tuple[object, Reference]:
        part = graph(
            "(float[1,64] x) => (float[1,64] y) "
            "{ q = QuantizeLinear <output_dtype=3> (x, s) y = DequantizeLinear (q, s) }",
            s=np.float32(STEP),
        )
        model = solo(part)
        feeds = [{"vision": {"x": np.full((1, 64), code * STEP, np.float32)}}]
        return model, Reference(feeds, [], [], contract=model.contract)

    return make


class Artifact:
    """Answers of the graph, some of them a step further."""

    def __init__(self, model, share: float, steps: int = 1) -> None:
        self.graph, self.share, self.steps = ReferenceParts(model.parts), share, steps

    def call(self, role, feeds):
        y = self.graph.call(role, feeds)["y"].copy()
        y[:, : int(self.share * y.shape[1])] += self.steps * STEP
        return {"y": y}


def checked(model, seen, artifact):
    model = model.with_parts(model.contract.model_copy(update={"kind": "classifier"}))
    proof = Proof([], seen, agree_source=0)
    check_artifacts(model, find_runtime("ort"), artifact, proof, [])
    return proof.artifact["vision"].sqnr_db


def test_noise_is_that_of_numbers_between_two_codes(rounding):
    """4.5 steps fall to 4 or 5: half of 64 outputs off by one of 4 is 15 dB; 4.2 is never moved."""
    between, clear = (
        rounding_noise(ReferenceParts(model.parts), seen, "vision")
        for model, seen in map(rounding, (4.5, 4.2))
    )
    assert 12 < between < 18 and clear == 200


def test_an_artifact_may_stray_as_the_graph_does_from_itself(rounding):
    model, seen = rounding(4.5)
    assert LEAST_DB < checked(model, seen, Artifact(model, 0.5)) < ROUNDING_FLOOR_DB


@pytest.mark.parametrize(
    ("code", "share", "steps"),
    [(4.2, 0.5, 1), (4.5, 1, 3)],
    ids=["the graph is steady", "another function"],
)
def test_but_no_further(rounding, code, share, steps):
    model, seen = rounding(code)
    with pytest.raises(JobFault, match="EV305 artifact vision strays at y"):
        checked(model, seen, Artifact(model, share, steps))
