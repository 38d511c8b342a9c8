"""The node that a drift report names: the first whose value is another one, whatever its type."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgevlm.compiler.drift import EXACT_DB
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.pass_base import Effect, Pass, PassResult
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import observe
from edgevlm.compiler.stray import TOGETHER, drift_by_value, first_stray
from edgevlm.passes.precision.cast_half import CastHalf

CHAIN = """(float[2,3] x) => (float[2,3] y) { [one] a = Mul(x, c) [two] b = Mul(a, d)
    [three] e = Tanh(b) [four] y = Neg(e) }"""
X = np.float32([[1, 2, 3], [4, 5, 6]]) / 10


def chain(graph, c=1.5, d=0.5):
    return graph(CHAIN, c=np.float32(c), d=np.float32(d))


def stray(before, after, *feeds, floor=60.0):
    return first_stray(before, after, [(feed, feed) for feed in feeds], floor)


def test_the_first_in_graph_order_is_named_with_its_drift(graph):
    feed = {"x": X}
    assert stray(chain(graph), chain(graph, d=0.55), feed) == "two (Mul), 20.0 dB"
    assert stray(chain(graph), chain(graph, c=1.65, d=0.6), feed) == "one (Mul), 20.0 dB"
    assert stray(chain(graph), chain(graph, d=0.55), feed, floor=19).startswith("a value that")


def test_one_picture_is_enough_and_the_earliest_of_all_counts(graph):
    """Where x is zero nothing shows."""
    zero = {"x": X * 0}
    assert stray(chain(graph), chain(graph, c=1.65), zero, {"x": X}).startswith("one")
    before, after = (graph(CHAIN.replace("c)", "x)"), d=np.float32(d)) for d in (0.5, 0.55))
    assert stray(before, after, {"x": X}, zero).startswith("two")


def test_values_of_other_names_shapes_and_kinds_are_passed_over(graph):
    after = graph(
        """(float[2,3] x) => (float[2,3] y) { [one] other = Mul(x, c) [two] b = Mul(other, d)
        [i] a = Cast<to = 7>(x) [four] y = Neg(b) }""",
        c=np.float32(1.5), d=np.float32(0.5),
    )  # fmt: skip
    assert stray(chain(graph), after, {"x": X}).startswith("four (Neg)")
    nothing = graph("(float[2,3] x) => (float[2,3] z) { z = Neg(x) }")
    assert stray(chain(graph), nothing, {"x": X}) == "a value that has no name in both graphs"


@pytest.fixture(scope="module")
def halved(make_micro, micro_probes):
    """A model, the same in float16, and what decode of the first was fed, of both types."""
    model = make_micro(layers=2, heads=4, kv_heads=2, width=16)
    seen = observe(model, micro_probes)
    step = CastHalf()
    step.calibration = seen
    return model, step(model).model, seen.fed("decode")


def test_a_decode_step_in_float16_is_fed_what_it_takes(halved):
    """Feeds are those of the float32 model: caches of float32."""
    model, after, feeds = halved
    pairs = [(feed, feed) for feed in feeds]
    sides = model.parts["decode"], after.parts["decode"]
    assert first_stray(*sides, pairs, 30.0) == "a value that has no name in both graphs"
    assert first_stray(*sides, pairs, 150.0).endswith("dB")


def test_a_wrong_node_of_a_float16_decode_is_found(halved, micro_probes):
    model, after, _ = halved
    part = after.parts["decode"].clone()
    node = next(n for n in part.graph if n.outputs[0].name == "h_1")
    node.replace_input_with(1, node.inputs[0])
    members = {
        "name": "wrong", "summary": "wrong", "effect": Effect.APPROXIMATE,
        "run": lambda self, _: PassResult(after.with_parts(decode=part), True),
    }  # fmt: skip
    with pytest.raises(JobFault, match="EV206") as caught:
        run_passes(model, [type("Wrong", (Pass,), members)()], micro_probes)
    assert f"first strayed at {node.name} (Mul)" in caught.value.why


def test_drift_of_values_by_name_is_over_all_inputs(graph, halved):
    before, after = chain(graph), chain(graph, d=0.55)
    feeds = [({"x": X}, {"x": X}), ({"x": X * 3}, {"x": X * 3})]
    found = drift_by_value(before, after, ["a", "b", "nobody"], feeds)
    assert found == {"a": EXACT_DB, "b": pytest.approx(20, abs=1e-3)}
    model, half, fed = halved
    names = [str(n.outputs[0].name) for n in model.parts["decode"].graph][: TOGETHER + 3]
    made = drift_by_value(model.parts["decode"], half.parts["decode"], names, [(f, f) for f in fed])
    assert set(made) == set(names) and all(db > 40 for db in made.values())


def test_what_is_not_finite_is_as_far_as_can_be(graph):
    before, after = chain(graph), chain(graph, c=np.inf)
    found = drift_by_value(before, after, ["a", "y"], [({"x": X}, {"x": X})])
    assert found["a"] == -math.inf and found["y"] > -math.inf
    silent = drift_by_value(before, chain(graph), ["a"], [({"x": X * 0}, {"x": X})])
    assert silent == {"a": -math.inf}
