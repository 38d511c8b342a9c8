"""Taps of the language model in other shapes of the same graph: each must choose the same tokens.

Attention with explicit masks, with three dimensions, with scaled q; positions rotated by plain
nodes; and what cannot be seen is refused with the reason.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.method import Method, Pieces
from edgevlm.passes.tokens.pieces.select import fixed

METHODS = ["fastv", "sparsevlm", "vlm-pruner", "v2drop", "transprune", "alvts"]
ROWS = [np.random.default_rng(seed).normal(size=(20, 16)) for seed in range(3)]


def attentions(part):
    return [node for node in part.graph if node.op_type == "Attention"]


def masked(model, kind):
    """Causal by a mask of its own instead of the attribute."""
    part = model.parts["prefill"].clone()
    build, rows = GraphBuilder(part, "mask"), model.contract.prefill_length
    sees = np.tril(np.ones((rows, rows), bool))
    for layer, node in enumerate(attentions(part)):
        array, dtype = (sees, bool) if kind == "bool" else (np.where(sees, 0, -np.inf), np.float32)
        array = array[None, None] if layer else array  # 4-D in most exports, 2-D is legal as well
        node.resize_inputs(4)
        node.replace_input_with(3, build.const(array, dtype))
        del node.attributes["is_causal"]
    build.finish()
    return model.with_parts(prefill=part)


def flattened(model):
    """Attention in three dimensions, heads as attributes."""
    part, c = model.parts["prefill"].clone(), model.contract
    build, rows = GraphBuilder(part, "flat"), c.prefill_length
    for node in attentions(part):
        heads = [int(value.shape[1]) for value in node.inputs[:3]]
        for position, count in enumerate(heads):
            turned = build("Transpose", node.inputs[position], perm=[0, 2, 1, 3])
            flat = build("Reshape", turned, build.const([1, rows, count * c.head_dim]))
            node.replace_input_with(position, flat)
        node.attributes["q_num_heads"] = ir.AttrInt64("q_num_heads", heads[0])
        node.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", heads[1])
        out = node.outputs[0]
        uses = list(out.uses())
        split = build("Reshape", out, build.const([1, rows, heads[0], c.head_dim]))
        back = build("Transpose", split, perm=[0, 2, 1, 3])
        out.shape = ir.Shape([1, rows, heads[0] * c.head_dim])
        for user, position in uses:
            user.replace_input_with(position, back)
    build.finish()
    return model.with_parts(prefill=part)


def rotated_by_hand(model):
    """The rotation of a key as slices, products and a sum, as older exporters write it."""
    part, half = model.parts["prefill"].clone(), model.contract.head_dim // 2
    build = GraphBuilder(part, "hand")
    node = next(n for n in part.graph if n.outputs[0].name == "key_0")
    x, old = node.inputs[0], node.outputs[0]
    cos, sin = (build("Unsqueeze", v, build.const([1])) for v in node.inputs[1:3])
    cut = [build("Slice", x, *(build.const([n]) for n in (a, a + half, 3))) for a in (0, half)]
    low = build("Sub", build("Mul", cut[0], cos), build("Mul", cut[1], sin))
    high = build("Add", build("Mul", cut[1], cos), build("Mul", cut[0], sin))
    spun = build("Concat", low, high, axis=3)
    for user, position in list(old.uses()):
        user.replace_input_with(position, spun)
    part.graph.outputs[list(part.graph.outputs).index(old)] = spun
    old.name, spun.name, spun.shape, spun.dtype = "gone", "key_0", old.shape, old.dtype
    part.graph.remove(node, safe=True)
    build.finish()
    return model.with_parts(prefill=part)


VARIANTS = {
    "masked, float": lambda model: masked(model, "float"),
    "masked, bool": lambda model: masked(model, "bool"),
    "three dimensions": flattened,
}


@pytest.fixture(scope="module")
def varied(small):
    return functools.cache(lambda variant: VARIANTS[variant](small()))


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        *(("masked, float", name) for name in (*METHODS, "hawk")),
        *(("three dimensions", name) for name in (*METHODS, "hawk")),
        ("masked, bool", "fastv"),
    ],
)
def test_another_graph_of_the_same_model_chooses_the_same(varied, place, put_in, variant, method):
    at = "llm:0" if method == "hawk" else "llm:2"
    plain = place(method, at, 6)
    other = put_in(varied(variant), method, at, 6)
    for rows in ROWS:
        assert other.choose(rows).tolist() == plain.choose(rows).tolist()
        a, b = plain.run(rows)["logits"], other.run(rows)["logits"]
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_a_query_scaled_in_advance_is_the_same_query(small, put_in, insert):
    """Some exports multiply q where others have the attribute `scale`."""
    model = insert(small(), "q_1", "Mul", np.array(3.0))
    loud = put_in(model, "alvts", "llm:1", 6)
    same = put_in(small(), "alvts", "llm:1", 6, scale=3.0)
    for rows in ROWS:
        assert loud.choose(rows).tolist() == same.choose(rows).tolist()


def test_a_rotation_of_plain_nodes_is_seen_and_refused(small, put_in):
    """Its attention is one like any other; its q and k without positions are not to be had."""
    model = rotated_by_hand(small())
    plain, other = (put_in(m, "fastv", "llm:1", 6) for m in (small(), model))
    assert other.choose(ROWS[0]).tolist() == plain.choose(ROWS[0]).tolist()
    with pytest.raises(UsageFault, match="without positions") as caught:
        put_in(model, "hawk", "llm:0", 6)
    assert caught.value.code == "EV230" and "how far apart" in str(caught.value)
    with pytest.raises(UsageFault, match="plain projections"):
        put_in(model, "alvts", "llm:0", 6)
    with pytest.raises(UsageFault, match="a rotary embedding"):
        put_in(model, "sparsevlm", "llm:1", 6, version="2")


class Asking(Method):
    """Chooses places at will; `tap` is called with the view first."""

    name, summary, sites = "asking", "a probe", ("llm",)

    def __init__(self, tap):
        super().__init__()
        self.tap = tap

    def pieces(self, view):
        self.tap(view)
        return Pieces(select=fixed(lambda count, keep: np.arange(keep)))


@pytest.mark.parametrize(
    ("tap", "why"),
    [
        (lambda view: view.hidden(2), "another site in between has dropped some"),
        (lambda view: view.attention(2), "another site in between has dropped some"),
        (lambda view: view.modules(2), "another site in between has dropped some"),
        (lambda view: view.hidden(4), "only 3 came before; llm:4 is the first site with it"),
        (lambda view: view.class_attention(), "it is in vision:B and vision-out"),
        (lambda view: view.grid(), "it is whole at the first site"),
    ],
)
def test_what_cannot_be_seen_is_refused_with_the_reason(small, put_in, tap, why):
    model = put_in(small(layers=4), "random", "llm:2", 12).model
    with pytest.raises(UsageFault) as caught:
        put_in(model, Asking(tap), "llm:3", 6)
    assert caught.value.code == "EV230" and why in str(caught.value)
    assert put_in(model, Asking(lambda view: view.hidden(1)), "llm:3", 6).model


def test_rows_of_a_layer_that_worked_on_others_are_no_rows_of_ours(small, put_in):
    """K tokens of a skipped layer, then K tokens for good: as many rows, and not the same ones."""
    model = put_in(small(layers=4), "alvts", "llm:1", 12, score="random").model
    model = put_in(model, "random", "llm:2", 12).model
    with pytest.raises(UsageFault, match="another site in between"):
        put_in(model, Asking(lambda view: view.hidden(2)), "llm:3", 6)
    reach = []
    put_in(model, Asking(lambda view: reach.append(view.reach)), "llm:3", 6)
    assert reach == [1]


def test_over_a_layer_that_was_skipped_all_rows_are_there_again(small, put_in):
    model = put_in(small(layers=4), "alvts", "llm:1", 12, score="random").model
    with pytest.raises(UsageFault, match="another site in between"):
        put_in(model, Asking(lambda view: view.attention(1)), "llm:2", 6)
    assert put_in(model, Asking(lambda view: view.hidden(2)), "llm:2", 6).model


def test_a_layer_that_computes_one_query_has_no_words_to_ask(small, put_in):
    """As the last one may: only the row that is read."""
    one = Asking(lambda view: view.paid(replace(view.attention(0), queries=1), [0]))
    with pytest.raises(UsageFault, match="the last layer computes one row only"):
        put_in(small(), one, "llm:2", 6)


def test_nothing_is_left_behind_that_nobody_reads(small, put_in):
    """Taps build what a method may not need, values of an attention above all."""
    for method in METHODS:
        part = put_in(small(), method, "llm:2", 6).model.parts["prefill"]
        outputs = set(part.graph.outputs)
        for node in part.graph:
            assert any(v.uses() or v in outputs for v in node.outputs), node.name
        for value in part.graph.initializers.values():
            assert value.uses(), value.name
