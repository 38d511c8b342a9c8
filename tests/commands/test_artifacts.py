"""How far an artifact may stray: from graphs that round, as far as they stray from themselves."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.commands.artifacts import LEAST_DB, ROUNDING_FLOOR_DB, check_artifacts
from edgevlm.commands.writing import Proof
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import Reference, observe
from edgevlm.compiler.rounding_noise import rounding_noise
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
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


def checked(model, seen, artifact, runtime="ort"):
    model = model.with_parts(model.contract.model_copy(update={"kind": "classifier"}))
    proof = Proof([], seen, agree_source=0)
    check_artifacts(model, find_runtime(runtime), artifact, proof, [])
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


class Rows:
    """Rows rounded with a zero point, as XNNPACK does; `bits` of the codes."""

    def __init__(self, bits: int) -> None:
        self.top = 2**bits - 1

    def call(self, role, feeds):
        x = feeds["x"]
        low = np.minimum(x.min(-1, keepdims=True), 0)
        step = (np.maximum(x.max(-1, keepdims=True), 0) - low) / self.top
        return {"y": (np.rint((x - low) / step) * step + low).astype(np.float32)}


@pytest.fixture
def rows(solo, graph):
    """A model that rounds rows to 4 bits without a zero point, and numbers for it."""
    model = solo(
        graph(
            "(float[4,256] x) => (float[4,256] y) { "
            "a = Abs (x) m = ReduceMax <keepdims=1> (a, axis) s = Div (m, seven) r = Div (x, s) "
            "q = QuantizeLinear <output_dtype=3> (r, one) d = DequantizeLinear (q, one) "
            "y = Mul (d, s) }",
            axis=np.array([1]), seven=np.float32(7), one=np.float32(1),
        )
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
    return model, Reference([{"vision": {"x": x}}], [], [], contract=model.contract)


def test_rows_may_be_rounded_otherwise_by_who_has_zero_points_if_as_finely(rows):
    assert LEAST_DB < checked(*rows, Rows(4), "executorch") < ROUNDING_FLOOR_DB
    for bits, runtime in ((4, "ort"), (3, "executorch")):
        with pytest.raises(JobFault, match="EV305 artifact vision strays at y"):
            checked(*rows, Rows(bits), runtime)


class Flipped:
    """Where a step's first two logits lie nearest, they change places; parts alone are alike."""

    def __init__(self, model) -> None:
        self.graphs = ReferenceParts(model.parts)

    def call(self, role, feeds):
        out = dict(self.graphs.call(role, feeds))
        if role == "prefill":
            logits = out["logits"] = out["logits"].copy()
            first, second = np.argsort(logits[0])[[-1, -2]]
            logits[0, [first, second]] = logits[0, [second, first]]
        return out


@pytest.mark.parametrize(("scheme", "passes"), [("w8a8:min-elements=1", True), ("none", False)])
def test_ties_may_fall_otherwise_where_numbers_are_rounded(
    micro_model, micro_probes, monkeypatch, scheme, passes
):
    flags = Flags(quant=scheme)
    steps = make_passes(compose("host-cpu", "ort", flags, micro_model))
    model = apply_unchecked(micro_model, steps, micro_probes)
    proof = Proof([], observe(model, micro_probes), agree_source=0)
    monkeypatch.setattr("edgevlm.commands.artifacts.compare_parts", lambda *_: {})
    monkeypatch.setattr("edgevlm.compiler.near_ties.ALIKE_DB", -100.0)
    asked = (model, find_runtime("ort"), Flipped(model), proof, micro_probes)
    if passes:
        check_artifacts(*asked)
        return
    with pytest.raises(JobFault, match="EV306 artifacts answer"):
        check_artifacts(*asked)
