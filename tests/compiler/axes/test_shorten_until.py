"""Rows left out of a region come back behind it, bit for bit as they were in front of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.axes.shorten import Places, Region, shorten
from edgevlm.compiler.blocks import find_blocks
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import open_session

ROWS, D = 7, 4
TEXT = f"""(float[1,{ROWS},{D}] x) => ({{outputs}}) {{{{
    s = Mul(x, x) k = Unsqueeze(s, one) a = Attention<is_causal = 1>(k, k, k)
    q = Squeeze(a, one) w = MatMul(q, weight) e = Add(s, w) y = Neg(e) }}}}"""
WHOLE = f"float[1,{ROWS},{D}] y"


@pytest.fixture
def layer(graph):
    weight = np.random.default_rng(0).normal(size=(D, D)).astype(np.float32)

    def make(outputs: str = WHOLE):
        return graph(TEXT.format(outputs=outputs), one=np.array([1]), weight=weight)

    return make


def value(part, name):
    return next(v for n in part.graph for v in n.outputs if v.name == name)


def skip(part, rows, until="e", stream="s"):
    clone = part.clone()
    region = Region(clone, {}, value(clone, stream), until=value(clone, until))
    build = GraphBuilder(clone, "cut")
    shorten(region, build, build.const(rows), Places(ROWS, len(rows)))
    return clone


def attend(s, weight):
    """What the layer does to the rows it is given, in numpy."""
    logits = s @ s.T / np.sqrt(D)
    logits[np.triu_indices(len(s), 1)] = -np.inf
    share = np.exp(logits - logits.max(-1, keepdims=True))
    return s + (share / share.sum(-1, keepdims=True)) @ s @ weight


@settings(max_examples=40, deadline=None)
@given(
    rows=st.sets(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS - 1), seed=st.integers(0, 99)
)
def test_rows_left_out_are_bit_unchanged_and_the_others_saw_each_other_only(
    graph, ort, rows, seed
):  # fmt: skip
    rows = np.array(sorted(rows))
    weight = np.random.default_rng(0).normal(size=(D, D)).astype(np.float32)
    part = graph(TEXT.format(outputs=f"float[1,{ROWS},{D}] e"), one=np.array([1]), weight=weight)
    part.graph.remove([n for n in part.graph if n.op_type == "Neg"], safe=True)
    short = skip(part, rows)
    x = np.random.default_rng(seed).normal(size=(1, ROWS, D)).astype(np.float32)
    got, stream = ort(short, x=x)["e"][0], (x * x)[0]
    gone = np.setdiff1d(np.arange(ROWS), rows)
    assert np.array_equal(got[gone], stream[gone])
    want = attend(stream[rows].astype(np.float64), weight)
    np.testing.assert_allclose(got[rows], want, rtol=2e-5, atol=1e-6)


def test_what_reads_the_region_reads_all_rows_again(layer, ort):
    rows = np.array([0, 3, 6])
    short = skip(layer(), rows)
    assert list(short.graph.outputs[0].shape) == [1, ROWS, D]
    x = np.random.default_rng(1).normal(size=(1, ROWS, D)).astype(np.float32)
    gone = np.setdiff1d(np.arange(ROWS), rows)
    assert np.array_equal(ort(short, x=x)["y"][0, gone], -(x * x)[0, gone])


def test_all_rows_of_one_are_the_layer_itself(layer, ort):
    part = layer()
    short = skip(part, np.arange(ROWS))
    x = np.random.default_rng(2).normal(size=(1, ROWS, D)).astype(np.float32)
    assert np.array_equal(ort(short, x=x)["y"], ort(part, x=x)["y"])


def test_rows_that_leave_the_region_elsewhere_are_refused(graph):
    """`w` is read behind the region as well: there it would have other rows."""
    text = f"""(float[1,{ROWS},{D}] x) => (float[1,{ROWS},{D}] y) {{
        s = Relu(x) w = Tanh(s) e = Add(s, w) y = Mul(e, w) }}"""
    with pytest.raises(JobFault) as caught:
        skip(graph(text), np.array([1, 2]))
    assert caught.value.code == "EV211" and "leaves the region" in caught.value.why
    assert "w" in caught.value.what.split()


def test_a_graph_output_inside_the_region_may_be_short(layer):
    """Caches of a layer: outputs of the region that nobody behind it reads."""
    part = layer(f"{WHOLE}, float[1,{ROWS},{D}] q")
    short = skip(part, np.array([0, 2]))
    assert [list(v.shape) for v in short.graph.outputs] == [[1, ROWS, D], [1, 2, D]]


def test_a_decoder_layer_of_the_miniature(make_micro):
    """One layer works on 8 of 15 rows: the stream behind it has all 15, 7 of them untouched."""
    model = make_micro(layers=3)
    part = model.parts["prefill"].clone()
    blocks = find_blocks(part.graph)
    rows = np.array([0, 1, 4, 6, 9, 10, 13, 14])
    entry = str(blocks[1].entry.name)
    region = Region(
        part, model.contract.signature("prefill"), blocks[1].entry, until=blocks[1].exit,
        indices=("last_index",),
    )  # fmt: skip
    build = GraphBuilder(part, "cut")
    shorten(region, build, build.const(rows), Places(15, len(rows)))
    after = next(b for b in find_blocks(part.graph) if b.index == 2).entry
    feeds = {
        "inputs_embeds": np.random.default_rng(0).normal(size=(1, 15, 8)).astype(np.float32),
        "position_ids": np.arange(15)[None],
        "last_index": np.array([14]),
    }
    front = value(part, entry)
    session = open_session(part, outputs=(front, after))
    before, got = session.run([front.name, after.name], feeds)
    gone = np.setdiff1d(np.arange(15), rows)
    assert np.array_equal(got[:, gone], before[:, gone])
    assert not np.array_equal(got[:, rows], before[:, rows])
    assert list(value(part, "key_1").shape) == [1, 1, len(rows), 4]
    assert list(value(part, "key_2").shape) == [1, 1, 15, 4]
