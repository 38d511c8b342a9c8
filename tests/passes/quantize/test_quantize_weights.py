"""quantize-weights on whole graphs and models: sharing, options, size, order, drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import load_model, save_model
from edgevlm.compiler.pass_base import PassResult
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.schedule import parse_asked

RNG = np.random.default_rng(0)
W = RNG.normal(size=(32, 32)).astype(np.float32)


def initializers(result, role="vision"):
    return {n: v.const_value for n, v in result.model.parts[role].graph.initializers.items()}


def test_a_weight_that_two_nodes_share_is_stored_once(graph, solo, ort):
    text = "(float[1,32] x) => (float[1,32] y) { a = MatMul(x, w) b = Neg(a) y = MatMul(b, w) }"
    part = graph(text, w=W)
    result = QuantizeWeights(min_elements=1)(solo(part))
    after = result.model.parts["vision"]
    assert sum(t.dtype.name == "INT8" for t in initializers(result).values()) == 1
    assert [n.op_type for n in after.graph].count("DequantizeLinear") == 2  # one a node: fusable
    names = [v.name for n in after.graph for v in n.outputs]
    assert len(names) == len(set(names)), "nodes without names must not make equal values"
    x = RNG.normal(size=(1, 32)).astype(np.float32)
    np.testing.assert_allclose(ort(after, x=x)["y"], ort(part, x=x)["y"], atol=2)


def test_names_that_are_taken_stay_with_their_owners(graph, solo, ort):
    """ONNX Runtime refuses two nodes of one name as well as two values of one name."""
    part = graph(
        """(float[1,32] x) => (float[1,32] y) {
        [w_real] a = Neg(x) w_q1 = Neg(a) w_scale1 = Neg(w_q1) [n] y = MatMul(w_scale1, w) }""",
        w=W,
    )
    ort(QuantizeWeights(min_elements=1)(solo(part)).model.parts["vision"], x=W[:1])


def test_a_weight_read_along_two_axes_is_quantised_for_each(graph, solo, ort):
    """A tied embedding: its rows are looked up and multiplied with, each with its own scales."""
    text = """(int64[1,3] x) => (float[1,3,32] y) { a = Gather(w, x) y = MatMul(a, w) }"""
    result = QuantizeWeights(min_elements=1)(solo(graph(text, w=W)))
    assert sum(t.dtype.name == "INT8" for t in initializers(result).values()) == 2
    assert "w" not in initializers(result)
    ort(result.model.parts["vision"], x=np.array([[0, 31, 5]]))


def test_rows_of_a_table_and_of_its_transpose_are_the_same_integers(graph, solo):
    text = """(int64[3] x, float[3,32] z) => (float[3,32] y, float[3,32] s) {
        y = Gather(w, x) s = Gemm<transB = 1>(z, w) }"""
    result = QuantizeWeights(min_elements=1)(solo(graph(text, w=W)))
    assert sum(t.dtype.name == "INT8" for t in initializers(result).values()) == 1


def test_a_weight_that_something_else_reads_stays_float_for_it(graph, solo, ort):
    text = "(float[1,32] x) => (float[1,32] y, float[32,32] z) { y = MatMul(x, w) z = Neg(w) }"
    result = QuantizeWeights(min_elements=1)(solo(graph(text, w=W)))
    assert "w" in initializers(result)
    assert np.array_equal(ort(result.model.parts["vision"], x=W[:1])["z"], -W)


def test_a_weight_that_is_an_output_stays(graph, solo, ort):
    part = graph("(float[1,32] x) => (float[1,32] y) { y = MatMul(x, w) }", w=W)
    part.graph.outputs.append(part.graph.initializers["w"])
    result = QuantizeWeights(min_elements=1)(solo(part))
    assert np.array_equal(ort(result.model.parts["vision"], x=W[:1])["w"], W)


@pytest.mark.parametrize(("limit", "left"), [(1024, True), (1025, False)])
def test_min_elements_counts_elements(graph, solo, limit, left):
    part = graph("(float[1,32] x) => (float[1,32] y) { [n] y = MatMul(x, w) }", w=W)
    result = QuantizeWeights(min_elements=limit)(solo(part))
    assert result.changed == left
    if not left:
        assert "1024 elements" in result.notes[0].why


def test_embeddings_stay_float_on_request(graph, solo):
    text = """(int64[3] x, float[3,32] z) => (float[3,32] y, float[3,32] s) {
        [t] y = Gather(w, x) s = MatMul(z, w) }"""
    result = QuantizeWeights(min_elements=1, embeddings=False)(solo(graph(text, w=W)))
    assert [(n.kind, n.where, n.why) for n in result.notes] == [
        ("skipped", "vision/t", "embeddings = false"),
        ("matched", "vision", "1 weights to int8 (max)"),
    ]  # fmt: skip
    with pytest.raises(UsageFault, match="min_elements"):
        QuantizeWeights(min_elements=0)


def test_a_zero_point_is_never_let_through(micro_model, graph):
    text = """(float[1,32] x) => (float[1,32] y) {
        r = DequantizeLinear<axis = 1>(q, s, z) y = MatMul(x, r) }"""
    q, s, z = (
        np.ones(shape, d) for shape, d in (((32, 32), np.int8), (32, np.float32), (32, np.int8))
    )
    bad = micro_model.with_parts(vision=graph(text, q=q, s=s, z=z))
    with pytest.raises(JobFault, match=r"EV501.*zero point"):
        QuantizeWeights().ensures(micro_model, bad)
    assert isinstance(QuantizeWeights()(micro_model), PassResult)


@pytest.fixture(scope="module")
def quantised(tiny_model):
    return QuantizeWeights()(tiny_model)


def test_the_bundled_model_has_no_zero_point_and_no_minus_128_anywhere(quantised):
    seen = 0
    for part in quantised.model.parts.values():
        for node in part.graph:
            assert node.op_type != "QuantizeLinear"
            if node.op_type == "DequantizeLinear":
                seen += 1
                data, scale = node.inputs
                assert data.shape[node.attributes["axis"].as_int()] == scale.shape[0]
        for value in part.graph.initializers.values():
            if value.dtype.name == "INT8":
                q = value.const_value.numpy()
                assert q.min() >= -127 and np.abs(q).max() == 127
    assert seen == (24 + 1 + 1) + 2 + 1 + 29 + 29  # vision: MatMul, Conv, positions; the others


def test_its_weights_take_about_a_quarter(quantised, tiny_model, tmp_path):
    before, after = (
        sum(count(p).weight_bytes for p in m.parts.values()) for m in (tiny_model, quantised.model)
    )
    assert 0.25 < after / before < 0.28
    sizes = []
    for name, model in (("a", tiny_model), ("b", quantised.model)):
        (tmp_path / name).mkdir()
        save_model(model, tmp_path / name)
        sizes.append((tmp_path / name / "weights.bin").stat().st_size)
    assert 0.24 < sizes[1] / sizes[0] < 0.27
    assert load_model(tmp_path / "b").contract == tiny_model.contract


def test_it_answers_as_before_after_keep_tokens_and_without(tiny_model, tiny_probes):
    for tokens in (None, "16"):
        flags = Flags(parse_asked(tokens, tokens and "dart", None), "w8")
        passes = make_passes(compose("cpu", "ort", flags, tiny_model))
        _, record, _ = run_passes(tiny_model, passes, tiny_probes)
        check = record[-1].check
        assert record[-1].name == "quantize-weights" and check.agree == len(tiny_probes)
        assert set(check.drift) == {"vision", "connector", "embed", "prefill", "decode"}
        assert all(drift.sqnr_db > 30 for drift in check.drift.values())
        overlap = check.drift["connector"].overlap
        assert overlap is None if tokens is None else overlap > 0.6


def test_pruning_what_is_quantised_works_on_its_own_too(tiny_model, tiny_probes):
    """A recipe refuses that order; the passes themselves do not need it."""
    model = KeepTokens(keep=16)(QuantizeWeights()(tiny_model).model).model
    other = QuantizeWeights()(KeepTokens(keep=16)(tiny_model).model).model
    for a, b in zip(
        run_passes(model, [], tiny_probes)[2].logits,
        run_passes(other, [], tiny_probes)[2].logits,
        strict=True,
    ):
        assert np.array_equal(a, b)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_random_chains_stay_within_what_their_steps_allow(
    graph, solo, ort, depth, inner, outer, seed
):
    """Every MatMul of a chain errs by at most sum |x| s / 2 for each of its outputs."""
    rng = np.random.default_rng(seed)
    sizes = [inner, *rng.integers(1, 7, depth - 1), outer]
    arrays = {
        f"w{i}": rng.normal(size=(sizes[i], sizes[i + 1])).astype(np.float32) for i in range(depth)
    }
    names = ["x", *(f"h{i}" for i in range(1, depth)), "y"]
    body = " ".join(f"{names[i + 1]} = MatMul({names[i]}, w{i})" for i in range(depth))
    part = graph(f"(float[3,{inner}] x) => (float[3,{outer}] y) {{ {body} }}", **arrays)
    after = QuantizeWeights(min_elements=1)(solo(part)).model.parts["vision"]
    x = rng.normal(size=(3, inner)).astype(np.float32)
    bound, exact = np.zeros((3, inner)), x.astype(np.float64)
    for i in range(depth):
        w = arrays[f"w{i}"].astype(np.float64)
        step = np.abs(w).max(0) / 127 / 2
        bound = bound @ (np.abs(w) + step) + np.abs(exact).sum(1, keepdims=True) * step
        exact = exact @ w
    assert (np.abs(ort(after, x=x)["y"] - exact) <= bound * 1.001 + 1e-5).all()
