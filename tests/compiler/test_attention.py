"""Attention written out computes what ONNX Runtime's Attention does; what is not plain is left."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.attention import grouped_attention, plain_attention

Q, K, V = "float[1,4,6,8] q", "float[1,2,6,8] k", "float[1,2,6,8] v"


def ops(part) -> Counter:
    return Counter(node.op_type for node in part.graph)


def feeds_of(part, seed=0):
    rng = np.random.default_rng(seed)
    return {
        str(v.name): rng.normal(size=tuple(v.shape)).astype(np.float32)
        for v in part.graph.inputs
        if v.name != "mask"
    }


@st.composite
def cases(draw):
    """(heads, kv heads, rows, keys, width, value width, block, causal, masked, scale)"""
    group, kv = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rows = draw(st.integers(1, 9))
    causal = draw(st.booleans())
    masked = rows == 1 and not causal and draw(st.booleans())  # ONNX Runtime wants a row for each
    return (
        (group * kv, kv, rows, draw(st.integers(rows, 9)), draw(st.integers(1, 5)),
         draw(st.integers(1, 5))),
        draw(st.integers(1, 12)),
        causal,
        masked,
        draw(st.sampled_from([None, 0.3])),
    )  # fmt: skip


@settings(max_examples=60)
@given(case=cases(), data=st.data())
def test_it_is_onnx_runtimes_attention(case, data, graph, ort):
    (heads, kv, rows, keys, width, out), block, causal, masked, scale = case
    mask = f", bool[1,1,1,{keys}] mask" if masked else ""
    attributes = f"is_causal={int(causal)}" + (f", scale={scale}" if scale else "")
    part = graph(
        f"(float[1,{heads},{rows},{width}] q, float[1,{kv},{keys},{width}] k, "
        f"float[1,{kv},{keys},{out}] v{mask}) => (float[1,{heads},{rows},{out}] y) "
        f"{{ y = Attention <{attributes}> (q, k, v{', mask' if masked else ''}) }}"
    )
    feeds = feeds_of(part)
    if masked:
        looks = data.draw(st.lists(st.booleans(), min_size=keys, max_size=keys).filter(any))
        feeds["mask"] = np.array(looks).reshape(1, 1, 1, keys)
    written = grouped_attention(part, block)
    assert "Attention" not in ops(written)
    assert ops(written)["Softmax"] == (-(-rows // block) if causal else 1)
    assert [tuple(v.shape) for v in written.graph.outputs] == [(1, heads, rows, out)]
    wanted, found = ort(part, **feeds)["y"], ort(written, **feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_names_outputs_and_the_original_stay(graph, ort):
    part = graph(
        f"({Q}, {K}, {V}) => (float[1,4,6,8] y, float[1,4,6,8] z) "
        "{ y = Attention (q, k, v) z = Relu(y) }"
    )
    part.graph.node(0).name = "attend"
    written = grouped_attention(part)
    assert ops(part) == {"Attention": 1, "Relu": 1}
    assert [v.name for v in written.graph.outputs] == ["y", "z"]
    assert written.graph.outputs[0].producer().name == "attend"
    feeds = feeds_of(part)
    for name, value in ort(part, **feeds).items():
        np.testing.assert_allclose(ort(written, **feeds)[name], value, atol=1e-5)


def test_layers_share_their_bias(graph):
    part = graph(
        f"({Q}, {K}, {V}, float[1,4,6,8] p) => (float[1,4,6,8] z) "
        "{ y = Attention <is_causal=1> (q, k, v) w = Add(y, p) "
        "z = Attention <is_causal=1> (w, k, v) }"
    )
    assert ops(grouped_attention(part))["Where"] == 1
    assert ops(grouped_attention(part))["Softmax"] == 2


@pytest.mark.parametrize(
    "body",
    [
        # a computed mask may hide everything from a row, which must give zeros then
        "(%s, %s, %s, bool[1,1,1,6] m) => (float[1,4,6,8] y) "
        "{ n = Not(m) y = Attention (q, k, v, n) }",
        "(%s, %s, %s, bool[6,6] m) => (float[1,4,6,8] y) { y = Attention (q, k, v, m) }",
        "(%s, %s, %s, float[1,1,1,6] m) => (float[1,4,6,8] y) { y = Attention (q, k, v, m) }",
        "(%s, %s, %s, bool[1,1,1,6] m) => (float[1,4,6,8] y) "
        "{ y = Attention <is_causal=1> (q, k, v, m) }",
        "(%s, %s, %s) => (float[1,4,6,8] y) { y = Attention <softcap=2.0> (q, k, v) }",
        "(%s, %s, %s) => (float[1,4,6,8] y, float[1,4,6,6] s) { y, a, b, s = Attention (q, k, v) }",
        "(%s, %s, %s, float[1,2,3,8] pk, float[1,2,3,8] pv) => (float[1,4,6,8] y) "
        "{ y, a, b = Attention (q, k, v, , pk, pv) }",
    ],
)
def test_what_is_not_plain_is_left_as_it_is(body, graph):
    part = graph(body % (Q, K, V))
    assert ops(grouped_attention(part)) == ops(part)


def test_attention_of_rank_three_is_left_as_it_is(graph):
    part = graph(
        "(float[1,6,32] q, float[1,6,16] k, float[1,6,16] v) => (float[1,6,32] y) "
        "{ y = Attention <q_num_heads=4, kv_num_heads=2> (q, k, v) }"
    )
    assert ops(grouped_attention(part)) == {"Attention": 1}


MORE = {  # what grouped_attention leaves, and a target without the op wants
    "float mask": (", float[1,1,6,6] mask", "q, k, v, mask", "scale=0.5"),
    "a mask a head": (", float[1,4,6,6] mask", "q, k, v, mask", "scale=0.5"),
    "computed mask": (", float[1,1,6,6] f", "q, k, v, mask", "scale=0.5"),
    "capped": ("", "q, k, v", "softcap=2.0"),
    "causal and masked": (", float[1,1,6,6] mask", "q, k, v, mask", "is_causal=1"),
}


@pytest.mark.parametrize("case", MORE)
def test_for_targets_without_the_op_masks_and_caps_are_written_out_too(case, graph, ort):
    """Four axes at most, and no key or value is repeated for the heads that share it."""
    inputs, given, attributes = MORE[case]
    first = "mask = Greater(f, zero)" if case == "computed mask" else ""
    part = graph(
        f"({Q}, {K}, {V}{inputs}) => (float[1,4,6,8] y) {{ {first} y = Attention <{attributes}> "
        f"({given}) }}",
        **({"zero": np.float32(0)} if first else {}),
    )
    assert ops(grouped_attention(part, None))["Attention"] == 1
    written = plain_attention(part)
    assert not ops(written).keys() & {"Attention", "Expand", "Tile", "Gather"}
    assert max(len(v.shape) for n in written.graph for v in n.outputs) <= 4
    feeds = feeds_of(part)
    if "mask" in inputs:
        shape = tuple(part.graph.inputs[3].shape)
        feeds["mask"] = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(ort(written, **feeds)["y"], ort(part, **feeds)["y"], atol=1e-5)
