"""What moving the inputs of a graph in the last place does to it, in float32 and in float16."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import Reference, observe
from edgevlm.compiler.rounding_noise import MOVED, MOVED_HALF, rounding_noise
from edgevlm.passes.precision.cast_half import CastHalf

X = np.random.default_rng(77).normal(size=(1, 64, 64)).astype(np.float32)


def noise(part, half=False, x=X):
    seen = Reference([{"vision": {"x": x}}], [], [])
    return rounding_noise(ReferenceParts({"vision": part}), seen, "vision", half)


@pytest.mark.parametrize(("half", "by"), [(False, MOVED), (True, MOVED_HALF)])
def test_a_graph_that_does_nothing_strays_as_far_as_it_was_moved(graph, half, by):
    part = graph("(float[1,64,64] x) => (float[1,64,64] y) { y = Identity(x) }")
    assert noise(part, half) == pytest.approx(-20 * np.log10(by), abs=0.5)


def test_a_graph_that_rounds_strays_by_whole_steps(graph):
    part = graph(
        """(float[1,64,64] x) => (float[1,64,64] y) {
        q = QuantizeLinear<output_dtype = 3>(x, s) y = DequantizeLinear(q, s) }""",
        s=np.float32(0.02),
    )
    assert 30 < noise(part, half=True) < 66 - 10
    still = (np.rint(X / 0.02) * 0.02).astype(np.float32)  # no number is on an edge
    assert noise(part, x=still) == 200


def test_inputs_of_float16_move_and_integers_do_not(graph):
    part = graph("(float16[1,64,64] x) => (float16[1,64,64] y) { y = Identity(x) }")
    assert 55 < noise(part, half=True, x=X.astype(np.float16)) < 75
    part = graph("(int64[1,64,64] x) => (int64[1,64,64] y) { y = Identity(x) }")
    assert noise(part, half=True, x=X.astype(np.int64)) == 200


def test_a_model_in_float16_strays_further_and_the_same_each_time(micro_model, micro_probes):
    after = apply_unchecked(micro_model, [CastHalf()], micro_probes)
    seen = observe(after, micro_probes)
    parts = ReferenceParts(after.parts)
    plain = ReferenceParts(micro_model.parts), observe(micro_model, micro_probes)
    for role in ("vision", "decode"):
        made = rounding_noise(parts, seen, role, half=True)
        assert made == rounding_noise(parts, seen, role, half=True)
        float_one = rounding_noise(*plain, role)
        assert 30 < made < 75 and float_one > made + 20
