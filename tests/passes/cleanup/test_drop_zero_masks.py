"""drop-zero-masks: a constant mask that masks nothing goes, every other one stays and says why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.cleanup.drop_zero_masks import DropZeroMasks

RNG = np.random.default_rng(0)
FEEDS = {name: RNG.normal(size=(1, 2, 5, 4)).astype(np.float32) for name in "qkv"}
HEAD = "(float[1,2,5,4] q, float[1,2,5,4] k, float[1,2,5,4] v{more}) => (float[1,2,5,4] y)"


@pytest.fixture
def attention(graph):
    """One Attention node; `mask` is a constant, or the text of nodes that compute `m`."""

    def make(mask, causal=0, more="", body="", **arrays):
        if not isinstance(mask, str):
            arrays["m"], mask = mask, "m"
        node = f"[att] y = Attention<is_causal = {causal}>(q, k, v, {mask})"
        return graph(f"{HEAD.format(more=more)} {{ {body} {node} }}", **arrays)

    return make


def masks(result):
    node = result.model.parts["vision"].graph.node(-1)
    return sum(v is not None for v in node.inputs[3:])


def flip(mask, value):
    mask = mask.copy()
    mask[..., -1, -1] = value
    return mask


SHAPES = [(5, 5), (1, 1, 5, 5), (1, 2, 5, 5)]


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["zeros", "minus zeros", "trues"])
def test_a_mask_that_masks_nothing_goes(attention, apply, kind, shape, causal):
    mask = np.ones(shape, bool) if kind == "trues" else np.zeros(shape, np.float32)
    result = apply(
        DropZeroMasks(), attention(-mask if kind == "minus zeros" else mask, causal), **FEEDS
    )
    assert result.changed and masks(result) == 0
    assert "m" not in result.model.parts["vision"].graph.initializers
    assert [(n.kind, n.why) for n in result.notes] == [("matched", "1 masks that mask nothing")]


def test_a_mask_of_one_row_goes_too_though_this_runtime_cannot_run_it(attention, solo, ort):
    """ONNX lets the rows of a mask broadcast; ONNX Runtime 1.31 wants all of them."""
    result = DropZeroMasks()(solo(attention(np.zeros((1, 1, 1, 5), np.float32))))
    assert result.changed and masks(result) == 0
    plain = attention(np.zeros((5, 5), np.float32))
    assert np.array_equal(ort(result.model.parts["vision"], **FEEDS)["y"], ort(plain, **FEEDS)["y"])


@pytest.mark.parametrize(
    "mask",
    [flip(np.zeros((1, 1, 5, 5), np.float32), value) for value in (-np.inf, -1e-30, 0.5, np.nan)]
    + [flip(np.ones((1, 1, 5, 5), bool), False), np.zeros((5, 5), bool)],
)
def test_a_mask_that_masks_one_thing_stays_and_is_told(attention, solo, mask):
    result = DropZeroMasks()(solo(attention(mask)))
    assert not result.changed and masks(result) == 1
    assert [(n.kind, n.where) for n in result.notes] == [("skipped", "vision/att")]
    assert "masks something" in result.notes[0].why


def test_a_mask_that_is_fed_stays_and_is_told(attention, apply):
    part = attention("fed", more=", bool[5,5] fed")
    result = apply(DropZeroMasks(), part, fed=np.ones((5, 5), bool), **FEEDS)
    assert not result.changed and "is an input" in result.notes[0].why


def test_a_mask_that_is_computed_stays_and_is_told(attention, apply):
    part = attention(
        "c", body="a = ReduceSum(q) b = Sub(a, a) c = Add(b, z)", z=np.zeros((5, 5), np.float32)
    )
    result = apply(DropZeroMasks(), part, **FEEDS)
    assert not result.changed and "is computed" in result.notes[0].why


def test_a_mask_shorter_than_the_keys_stays(attention, solo):
    """Where the mask has fewer columns than there are keys, a runtime may mask the rest."""
    result = DropZeroMasks()(solo(attention(np.zeros((5, 3), np.float32))))
    assert not result.changed and "3 of 5 keys" in result.notes[0].why


def test_a_cache_behind_the_mask_stays_in_its_place(graph, apply):
    part = graph(
        """(float[1,2,5,4] q, float[1,2,5,4] k, float[1,2,5,4] v,
         float[1,2,3,4] pk, float[1,2,3,4] pv)
        => (float[1,2,5,4] y, float[1,2,8,4] nk, float[1,2,8,4] nv) {
        y, nk, nv = Attention(q, k, v, m, pk, pv) }""",
        m=np.zeros((5, 8), np.float32),
    )
    past = {name: RNG.normal(size=(1, 2, 3, 4)).astype(np.float32) for name in ("pk", "pv")}
    result = apply(DropZeroMasks(), part, **FEEDS, **past)
    inputs = result.model.parts["vision"].graph.node(0).inputs
    assert result.changed and inputs[3] is None and inputs[5].name == "pv"


def test_a_mask_that_something_else_reads_stays_there(graph, apply):
    text = HEAD.format(more="").replace("y)", "y, float[5,5] z)")
    part = graph(
        f"{text} {{ y = Attention(q, k, v, m) z = Neg(m) }}", m=np.zeros((5, 5), np.float32)
    )
    result = apply(DropZeroMasks(), part, **FEEDS)
    assert result.changed and "m" in result.model.parts["vision"].graph.initializers


def test_a_constant_that_is_an_output_stays_though_no_node_reads_it(attention, apply, graph):
    part = attention(np.zeros((5, 5), np.float32))
    part.graph.outputs.append(part.graph.initializers["m"])
    result = apply(DropZeroMasks(), part, **FEEDS)
    assert result.changed and list(result.model.parts["vision"].graph.initializers) == ["m"]


def test_attention_without_a_mask_is_nothing_to_tell(graph, apply):
    part = graph(f"{HEAD.format(more='')} {{ y = Attention(q, k, v) }}")
    result = apply(DropZeroMasks(), part, **FEEDS)
    assert not result.changed and result.notes == ()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["none", "zeros", "trues", "one", "false"]), min_size=1, max_size=4)
)
def test_any_stack_of_attentions_keeps_its_function(graph, apply, kinds):
    made = {
        "zeros": np.zeros((5, 5), np.float32), "trues": np.ones((5, 5), bool),
        "one": np.tril(np.ones((5, 5), np.float32)), "false": np.tril(np.ones((5, 5), bool)),
    }  # fmt: skip
    last, lines, arrays = "q", [], {}
    for i, kind in enumerate(kinds):
        mask = "" if kind == "none" else f", m{i}"
        arrays |= {f"m{i}": made[kind]} if mask else {}
        lines.append(f"a{i} = Attention({last}, k, v{mask})")
        last = f"a{i}"
    part = graph(f"{HEAD.format(more='')} {{ {' '.join(lines)} y = Neg({last}) }}", **arrays)
    result = apply(DropZeroMasks(), part, rtol=1e-6, **FEEDS)
    left = [v for n in result.model.parts["vision"].graph for v in n.inputs[3:] if v is not None]
    assert len(left) == sum(kind in ("one", "false") for kind in kinds)
