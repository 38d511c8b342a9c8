"""Layer by layer: what each is shown, against a chain worked by hand in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.reference import Reference, observe
from edgevlm.passes.quantize.compensation.gptq import gptq
from edgevlm.passes.quantize.compensation.gram import Gram
from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.kinds import token_kinds
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.walk import Walk

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(12, 12)).astype(np.float32) for _ in "abc")
CHAIN = """(float[5,12] x) => (float[5,12] y) {
    p = MatMul(x, a) q = MatMul(x, b) m = Mul(p, q) t = Tanh(m) y = MatMul(t, c) }"""
FEEDS = [{"x": RNG.normal(size=(5, 12)).astype(np.float32)} for _ in range(6)]


def fitted(model, feeds, **options):
    step = QuantizeWeights(min_elements=1, **options)
    step.calibration = Reference([{"vision": f} for f in feeds], [], [])
    return step(model)


def weights(part):
    """Real numbers of each product's weight, by the name of its output."""
    found = {}
    for node in part.graph:
        if node.op_type == "MatMul":
            codes, scale = (v.const_value.numpy() for v in node.inputs[1].producer().inputs)
            found[node.outputs[0].name] = codes.astype(np.float64) * scale
    return found


@pytest.mark.parametrize("method", ["gptq", "gptaq", "vlm-ptq", "full"])
def test_each_layer_is_shown_what_those_in_front_became(graph, solo, method):
    part = graph(CHAIN, a=A, b=B, c=C)
    found = weights(fitted(solo(part), FEEDS, bits=3, method=method).model.parts["vision"])
    aim = "plain" if method == "gptq" else method
    first = Gram(12)
    for feed in FEEDS:
        first.add(feed["x"], None if aim == "plain" else feed["x"])
    a, b = (gptq(w.T, first, Grid(3), aim=aim).weights().T for w in (A, B))
    behind = Gram(12)
    for x in (f["x"].astype(np.float64) for f in FEEDS):
        behind.add(
            np.tanh((x @ a) * (x @ b)), None if aim == "plain" else np.tanh((x @ A) * (x @ B))
        )
    for name, wanted in {
        "p": a,
        "q": b,
        "y": gptq(C.T, behind, Grid(3), aim=aim).weights().T,
    }.items():
        codes_apart = np.abs(found[name] - wanted) > 1e-4
        assert codes_apart.mean() < 0.02, name  # float32 sums may tip one number over an edge


def test_it_gives_the_layer_less_error_than_rounding_to_nearest(graph, solo):
    part = graph(CHAIN, a=A, b=B, c=C)
    mixed = RNG.normal(size=(200, 4)) @ RNG.normal(size=(4, 12)) + 0.1 * RNG.normal(size=(200, 12))
    x = mixed.astype(np.float32)  # channels that go together: some can make up for others
    feeds = [{"x": rows} for rows in x.reshape(40, 5, 12)]
    errors = {}
    for method in ("mse", "gptq"):
        after = weights(fitted(solo(part), feeds, bits=3, method=method).model.parts["vision"])
        errors[method] = np.square(x @ (after["p"] - A)).sum()
    assert errors["gptq"] < 0.5 * errors["mse"]


def test_a_walk_sees_what_a_run_sees(micro_model, micro_probes, ort):
    """At every product of a real decoder, whatever order the cuts come in."""
    part = micro_model.parts["prefill"]
    feeds = [f["prefill"] for f in observe(micro_model, micro_probes).feeds]
    walk = Walk(part, feeds)
    seen = 0
    for node in part.graph:
        if node.op_type != "MatMul" or node.inputs[0].is_graph_input():
            continue
        walk.to(node)
        x = node.inputs[0]
        clone = part.clone()
        clone.graph.outputs[:] = [v for n in clone.graph for v in n.outputs if v.name == x.name]
        for feed, found in zip(feeds, walk.inputs(x), strict=True):
            np.testing.assert_allclose(found, ort(clone, **feed)[x.name], rtol=1e-5, atol=1e-6)
        seen += 1
    assert seen > 3


def test_a_walk_holds_only_what_is_still_read(graph):
    part = graph(CHAIN, a=A, b=B, c=C)
    walk = Walk(part, FEEDS)
    walk.to(next(n for n in part.graph if n.outputs[0].name == "y"))
    assert [set(held) for held in walk.values] == [{"t"}] * len(FEEDS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inputs_that_are_not_finite_leave_rounding_to_nearest(graph, solo, bad):
    part = graph(CHAIN, a=A, b=B, c=C)
    feeds = [*FEEDS, {"x": np.full((5, 12), bad, np.float32)}]
    found, plain = (
        weights(fitted(solo(part), given, bits=4, method=m).model.parts["vision"])
        for given, m in ((feeds, "gptq"), (FEEDS, "mse"))
    )
    assert all(np.array_equal(found[name], plain[name]) for name in found)


@pytest.mark.parametrize("feeds", [FEEDS[:1], [{"x": np.zeros((5, 12), np.float32)}]])
def test_one_input_or_a_constant_one_will_do(graph, solo, feeds):
    found = weights(
        fitted(solo(graph(CHAIN, a=A, b=B, c=C)), feeds, bits=4, method="gptq").model.parts[
            "vision"
        ]
    )
    assert all(np.isfinite(w).all() for w in found.values())
    assert np.abs(found["p"] - A).max() < np.abs(A).max()


def test_parts_that_share_weights_share_the_rounded_ones(micro_model, micro_probes):
    step = QuantizeWeights(min_elements=1, bits=4, method="gptq")
    step.calibration = observe(micro_model, micro_probes)
    after = step(micro_model).model
    integers = {
        role: {v.const_value.tobytes() for v in after.parts[role].graph.initializers.values()
               if v.dtype.name == "INT4"}
        for role in ("prefill", "decode")
    }  # fmt: skip
    assert integers["prefill"] == integers["decode"] and len(integers["prefill"]) > 3


def test_padding_is_known(micro_model, micro_probes):
    seen = observe(micro_model, micro_probes)
    contract = micro_model.contract
    for i, probe in enumerate(micro_probes):
        kinds = list(token_kinds(seen, "prefill", i))
        words = len(probe.before), len(probe.after)
        assert kinds.count("image") == contract.kept_image_tokens
        assert kinds.count("text") == sum(words)
        assert kinds.count("padding") == contract.prompt_capacity - sum(words)
        assert kinds[words[0]] == "image" and token_kinds(seen, "vision", i) is None
