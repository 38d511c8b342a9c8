"""Ops written out against ONNX Runtime's own, or numpy where it has none; any shape, both types."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.attention import grouped_attention
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.mixed_types import check_types
from edgevlm.runtimes.tensorrt.facts import facts
from edgevlm.runtimes.tensorrt.spell_out import WRITTEN_OUT, spell_out

KINDS = {"float": np.float32, "float16": np.float16}
NEAR = {"float": {"rtol": 2e-5, "atol": 2e-5}, "float16": {"rtol": 4e-3, "atol": 4e-3}}


def run(part, *feeds):
    names = [str(v.name) for v in part.graph.inputs]
    return open_session(part).run(None, dict(zip(names, feeds, strict=True)))[0]


def spelled(part, op):
    """With its types proved by onnx and nothing left of the op."""
    made = spell_out(part, frozenset({op}))
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    check_types("vision", made)
    assert op not in Counter(n.op_type for n in made.graph)
    assert op in Counter(n.op_type for n in part.graph), "the part itself stays"
    return made


def rms(x, weight, axis, epsilon):
    """By the book, in float64."""
    x = x.astype(np.float64)
    axes = tuple(range(axis % x.ndim, x.ndim))
    return x / np.sqrt((x * x).mean(axes, keepdims=True) + epsilon) * weight


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    data=st.data(),
    kind=st.sampled_from(sorted(KINDS)),
    epsilon=st.sampled_from([None, 1e-6, 0.3]),
)
def test_rms_normalization(graph, shape, data, kind, epsilon):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    inner, size = shape[axis % len(shape) :], ",".join(map(str, shape))
    words = [f"axis = {axis}"] * (axis != -1 or data.draw(st.booleans()))
    words += [] if epsilon is None else [f"epsilon = {epsilon:f}"]
    attributes = f"<{', '.join(words)}>" if words else ""
    rng = np.random.default_rng(len(shape))
    weight = rng.normal(size=inner).astype(KINDS[kind])
    part = graph(
        f"({kind}[{size}] x) => ({kind}[{size}] y) {{ y = RMSNormalization{attributes}(x, w) }}",
        w=weight,
    )
    x = rng.normal(size=shape).astype(KINDS[kind])
    found = run(spelled(part, "RMSNormalization"), x)
    assert found.dtype == KINDS[kind] and found.shape == tuple(shape)
    np.testing.assert_allclose(found, rms(x, weight, axis, epsilon or 1e-5), **NEAR[kind])
    np.testing.assert_allclose(found, run(part, x), **NEAR[kind])


@pytest.mark.parametrize("size", [3e3, 1e-4])
def test_squares_may_pass_either_end_of_float16(graph, size):
    part = graph(
        """(float16[2,64] x) => (float16[2,64] y) {
        y = RMSNormalization<epsilon = 0.0000000001>(x, w) }""",
        w=np.ones(64, np.float16),
    )
    x = (np.random.default_rng(0).normal(size=(2, 64)) * size).astype(np.float16)
    with np.errstate(over="ignore", under="ignore"):
        assert np.isinf(x * x).any() or not (x * x > 1e-7).any()
    found = run(spelled(part, "RMSNormalization"), x)
    np.testing.assert_allclose(found, rms(x, 1, -1, 1e-10), rtol=2e-3)


@st.composite
def turns(draw):
    """(batch, heads, rows, width, channels that turn, interleaved, flat, places, positions)"""
    half = draw(st.integers(1, 3))
    more = draw(st.integers(0, 2)) * 2
    return (
        draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 4)),
        2 * half + more, 2 * half, draw(st.booleans()), draw(st.booleans()), draw(st.booleans()),
        draw(st.integers(4, 9)),
    )  # fmt: skip


def rotary_part(graph, case, kind):
    batch, heads, rows, width, turned, interleaved, flat, places, positions = case
    size = (batch, rows, heads * width) if flat else (batch, heads, rows, width)
    shape = ",".join(map(str, size))
    tables = f"{positions},{turned // 2}" if places else f"{batch},{rows},{turned // 2}"
    words = [f"interleaved = {int(interleaved)}"]
    words += [f"num_heads = {heads}"] * flat
    words += [f"rotary_embedding_dim = {turned}"] * (turned < width)
    more, taken = (f", int64[{batch},{rows}] p", ", p") if places else ("", "")
    text = f"""({kind}[{shape}] x, {kind}[{tables}] c, {kind}[{tables}] s{more})
        => ({kind}[{shape}] y) {{ y = RotaryEmbedding<{", ".join(words)}>(x, c, s{taken}) }}"""
    rng = np.random.default_rng(0)
    angles = rng.uniform(-4, 4, size=tuple(map(int, tables.split(","))))
    feeds = [rng.normal(size=size), np.cos(angles), np.sin(angles)]
    feeds = [f.astype(KINDS[kind]) for f in feeds]
    if places:
        feeds.append(rng.integers(0, positions, (batch, rows)))
    return graph(text), feeds


def rotated(case, x, cos, sin, places=None):
    """A pair of channels as a complex number, times another."""
    batch, heads, rows, width, turned, interleaved, flat, _, _ = case
    if flat:
        x = x.reshape(batch, rows, heads, width).transpose(0, 2, 1, 3)
    if places is not None:
        cos, sin = cos[places], sin[places]
    by = (cos.astype(np.float64) + 1j * sin)[:, None]
    y = x.astype(np.float64)
    a, b = np.arange(turned // 2), np.arange(turned // 2) + turned // 2
    if interleaved:
        a, b = np.arange(0, turned, 2), np.arange(1, turned, 2)
    made = (y[..., a] + 1j * y[..., b]) * by
    y[..., a], y[..., b] = made.real, made.imag
    return y.transpose(0, 2, 1, 3).reshape(batch, rows, -1) if flat else y


@settings(max_examples=80)
@given(case=turns(), kind=st.sampled_from(sorted(KINDS)))
def test_rotary_embedding(graph, case, kind):
    part, feeds = rotary_part(graph, case, kind)
    made = spelled(part, "RotaryEmbedding")
    found = run(made, *feeds)
    assert found.dtype == KINDS[kind] and found.shape == feeds[0].shape
    np.testing.assert_allclose(found, rotated(case, *feeds), **NEAR[kind])
    np.testing.assert_allclose(found, run(part, *feeds), **NEAR[kind])


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("alpha", [None, 1.0, 1.702, -0.5])
def test_swish(graph, kind, alpha):
    """ONNX Runtime has it from opset 24 on; here it is the formula alone."""
    words = "" if alpha is None else f"<alpha = {alpha}>"
    part = graph(f"({kind}[2,5] x) => ({kind}[2,5] y) {{ y = Swish{words}(x) }}", opset=24)
    made = spell_out(part, frozenset({"Swish"}))
    made.opset_imports[""] = 23
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    x = np.random.default_rng(0).normal(size=(2, 5)).astype(KINDS[kind]) * KINDS[kind](3)
    wide = x.astype(np.float64)
    wanted = wide / (1 + np.exp(-(1.0 if alpha is None else alpha) * wide))
    np.testing.assert_allclose(run(made, x), wanted, **NEAR[kind])


def test_only_what_is_lacking_is_written_out(graph):
    part = graph(
        """(float[1,2,3,4] x, float[1,3,2] c, float[1,3,2] s) => (float[1,2,3,4] z) {
        [norm] y = RMSNormalization(x, w) [turn] z = RotaryEmbedding(y, c, s) }""",
        w=np.ones(4, np.float32),
    )
    assert spell_out(part, frozenset()) is part
    assert spell_out(part, frozenset({"Swish", "Attention"})) is part
    made = spell_out(part, frozenset({"RMSNormalization"}))
    names = {str(n.name): n.op_type for n in made.graph}
    assert names["turn"] == "RotaryEmbedding" and names["norm"] == "Mul"
    assert [v.name for v in made.graph.outputs] == ["z"]
    shapes = [v.shape for n in made.graph for v in n.outputs]
    assert all(s is not None and all(isinstance(d, int) for d in s) for s in shapes)


def test_every_op_that_a_release_adds_can_be_written_out_for_those_below():
    added = {op for release in facts().releases for op in release.adds}
    assert added - {"TensorScatter"} == set(WRITTEN_OUT) - {"Attention"}  # no release has that


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("heads", "kv", "causal", "masked"),
    [(4, 2, 0, False), (4, 4, 1, False), (6, 2, 1, False), (4, 1, 0, True)],
)
def test_attention_in_both_types(graph, kind, heads, kv, causal, masked):
    rows = 1 if masked else 6
    more, taken = (", bool[1,1,1,6] m", ", m") if masked else ("", "")
    part = graph(
        f"""({kind}[1,{heads},{rows},8] q, {kind}[1,{kv},6,8] k, {kind}[1,{kv},6,8] v{more})
        => ({kind}[1,{heads},{rows},8] y) {{
        [a] y = Attention<is_causal = {causal}>(q, k, v{taken}) }}"""
    )
    made = grouped_attention(part, None)
    assert "Attention" not in Counter(n.op_type for n in made.graph)
    check_types("decode", made)
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    rng = np.random.default_rng(0)
    feeds = [rng.normal(size=tuple(v.shape)).astype(KINDS[kind]) for v in part.graph.inputs[:3]]
    feeds += [np.array([True, False, True, True, False, True]).reshape(1, 1, 1, 6)] * masked
    found = run(made, *feeds)
    assert found.dtype == KINDS[kind]
    np.testing.assert_allclose(found, run(part, *feeds), **NEAR[kind])
    wide = part.clone()
    for value in wide.graph.inputs:
        if value.dtype == ir.DataType.FLOAT16:
            value.type = ir.TensorType(ir.DataType.FLOAT)
    wide.graph.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    exact = run(wide, *(f.astype(np.float32) if f.dtype != bool else f for f in feeds))
    np.testing.assert_allclose(found, exact, **NEAR[kind])
