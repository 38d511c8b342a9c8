"""Exact passes on parts that round: 80 dB with the rounding left out, and fewer with it."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.pass_base import Effect
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.verify import check_pass
from edgevlm.compiler.without_rounding import without_rounding

RNG = np.random.default_rng(0)
PART = """(float[1,8,16] x) => (float[1,8,4] y) {
    a = Mul(x, one) q = QuantizeLinear<output_dtype=3>(a, s) r = DequantizeLinear(q, s)
    y = MatMul(r, w) }"""


@pytest.fixture
def model(graph, solo):
    w = RNG.normal(size=(16, 4)).astype(np.float32)
    return solo(graph(PART, one=np.float32(1), s=np.float32(0.02), w=w))


def judged(model, by, monkeypatch):
    """The check of a rewrite that multiplies by something else than 1."""
    part = model.parts["vision"].clone()
    node = next(n for n in part.graph if n.op_type == "Mul")
    GraphBuilder(part, "moved").put(node, 1, np.array(by, np.float32))
    monkeypatch.setattr("edgevlm.compiler.verify.observe", lambda *_: Reference([], [], []))
    # on the edges between codes, so that the last place decides
    x = (0.02 * (RNG.integers(-90, 90, size=(1, 8, 16)) + 0.5)).astype(np.float32)
    seen = Reference([{"vision": {"x": x}}], [], [])
    return check_pass("moved", Effect.EXACT, model, model.with_parts(vision=part), seen, [], 15.0)[
        0
    ].drift["vision"]


def test_the_last_place_may_move_a_number_to_the_next_code(model, monkeypatch):
    assert 10 < judged(model, 1 + 2e-6, monkeypatch).sqnr_db < 80


def test_what_is_wrong_without_rounding_is_refused(model, monkeypatch):
    with pytest.raises(JobFault, match="EV206") as caught:
        judged(model, 1 + 1e-3, monkeypatch)
    assert "under 80 dB" in caught.value.why


def test_rounding_is_left_out_and_weights_stay_rounded(graph, ort):
    part = graph(
        """(float[1,8,16] x) => (float[1,8,4] y, float[1,8,4] z) {
        q = QuantizeLinear<output_dtype=3>(x, s) r = DequantizeLinear(q, s)
        w = DequantizeLinear<axis=1>(c, t) y = MatMul(r, w)
        e = QuantizeLinear<output_dtype=3>(y, s) z = DequantizeLinear(e, s) }""",
        s=np.float32(0.1),
        c=RNG.integers(-128, 128, size=(16, 4)).astype(np.int8),
        t=np.full(4, 0.01, np.float32),
    )
    made = without_rounding(part)
    kinds = [n.op_type for n in made.graph]
    assert kinds.count("QuantizeLinear") == 1 and kinds.count("DequantizeLinear") == 2
    x = RNG.normal(size=(1, 8, 16)).astype(np.float32)
    found = ort(made, x=x)
    codes = part.graph.initializers["c"].const_value.numpy()
    np.testing.assert_allclose(found["y"], x @ (codes * np.float32(0.01)), rtol=1e-4, atol=1e-4)
    assert np.allclose(found["z"] / 0.1, np.rint(found["z"] / 0.1), atol=1e-4)  # a port stays
    assert [n.op_type for n in part.graph].count("QuantizeLinear") == 2
