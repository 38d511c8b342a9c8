"""Which attentions merge-attention takes, and which it refuses, with the reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.attention_sites import attention_sites
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.merge_attention import MergeAttention

SMALL = {"block": 8, "queries": 0.75, "keys": 0.5, "back": 0.125}


def refused(call, code="EV230"):
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def edited(model, change):
    part = model.parts["vision"].clone()
    change(next(n for n in part.graph if n.op_type == "Attention"), GraphBuilder(part, "edit"))
    return model.with_parts(vision=part)


def masked(node, build):
    mask = build.const(np.where(np.eye(17), 0, -1)[None, None], np.float32)
    node.resize_inputs(4)
    node.replace_input_with(3, mask)


def test_what_it_refuses(vit, make_micro):
    step, plain = MergeAttention(**SMALL), vit.plain_vit(blocks=1)
    causal = lambda node, _: node.attributes.add(ir.AttrInt64("is_causal", 1))  # noqa: E731
    for change, why in ((causal, "causal"), (masked, "mask of its own")):
        assert why in refused(lambda change=change: step(edited(plain, change))).why
    assert "no blocks" in refused(lambda: step(make_micro())).why
    for blocks in ([3], [-1]):
        wrong = MergeAttention(blocks=blocks)
        assert "0 to 2" in refused(lambda wrong=wrong: wrong(vit.plain_vit()), "EV209").why
    for wrong in ({"queries": 1.0}, {"keys": -0.1}, {"block": 1}, {"targets": 0.0}, {"form": "x"}):
        refused(lambda wrong=wrong: MergeAttention(**wrong), "EV202")


def test_an_attention_of_one_row_has_nothing_to_save(graph, solo):
    part = graph(
        """(float[1,9,4] s) => (float[1,1,4] y) {
        n = LayerNormalization<axis = -1>(s, gain, gain)
        row = Gather<axis = 1>(n, first) own = Gather<axis = 1>(s, first)
        q0 = MatMul(row, w) k0 = MatMul(n, w) v0 = MatMul(n, w)
        a = Attention<q_num_heads = 2, kv_num_heads = 2>(q0, k0, v0)
        o = MatMul(a, w) y = Add(own, o) }""",
        gain=np.ones(4, np.float32),
        w=np.eye(4, dtype=np.float32),
        first=np.array([0]),
    )
    assert "1 of 9 rows" in refused(lambda: MergeAttention(**SMALL)(solo(part))).why


def _rows_of(graph, attention, stream="float[1,8,4]", before="a0 = Identity(n)", **weights):
    """A block whose attention gets `before`'s values: graph with stream s, its norm n, output y."""
    return graph(
        f"""({stream} s) => ({stream} y) {{
        n = LayerNormalization<axis = -1>(s, gain, gain) {before}
        {attention}
        o = MatMul(back, w) y = Add(s, o) }}""",
        gain=np.ones(4, np.float32),
        w=np.eye(4, dtype=np.float32),
        **weights,
    )


HEADS = "q_num_heads = 2, kv_num_heads = 2"


def test_windows_have_no_whole_picture_to_merge_in(graph, solo):
    """Two windows of four rows each, as Swin and Qwen2.5-VL lay them out."""
    part = _rows_of(
        graph,
        f"a = Attention<{HEADS}>(q, k, v) back = Reshape(a, flat)",
        before="""windows = Reshape(n, cut)
        q = MatMul(windows, w) k = MatMul(windows, w) v = MatMul(windows, w)""",
        cut=np.array([2, 4, 4]),
        flat=np.array([1, 8, 4]),
    )
    assert "windows" in refused(lambda: MergeAttention(**SMALL)(solo(part))).why


def test_a_cache_has_all_rows(graph, solo):
    part = _rows_of(
        graph,
        f"back, key, value = Attention<{HEADS}>(q, k, v, , past, past)",
        before="q = MatMul(n, w) k = MatMul(n, w) v = MatMul(n, w)",
        past=np.zeros((1, 2, 3, 2), np.float32),
    )
    assert "a cache" in refused(lambda: MergeAttention(**SMALL)(solo(part))).why


def test_halves_are_not_matched(graph, solo):
    """float16 rows: a cosine of them is too coarse to rank by."""
    part = _rows_of(
        graph,
        f"a = Attention<{HEADS}>(q, k, v) back = Cast<to = 1>(a)",
        before="""h = Cast<to = 10>(n) w16 = Cast<to = 10>(w)
        q = MatMul(h, w16) k = MatMul(h, w16) v = MatMul(h, w16)""",
    )
    assert "FLOAT16" in refused(lambda: MergeAttention(**SMALL)(solo(part))).why


def test_where_patches_are(vit, make_micro):
    """Behind class and register tokens; in a VLM by axes alone, also where some have left."""
    for kind in ("classifier", "dense"):
        for lead in (0, 1):
            found = attention_sites(vit.plain_vit(kind, lead=lead), "")
            assert [(s.rows, s.start, s.count) for s in found] == [(16 + lead, lead, 16)] * 3
    for lead in (0, 1):
        model = make_micro(grid=(4, 5), tower=2, lead=lead, width=16, heads=4)
        found = attention_sites(model, "")
        assert [(s.rows, s.start, s.count) for s in found] == [(20 + lead, lead, 20)] * 2
        shorter = KeepTokens(keep=7, method="stride", at="vision:1")(model).model
        found = attention_sites(shorter, "")
        assert [(s.start, s.count) for s in found] == [(lead, 20), (lead, 7)]


def test_a_classifier_that_lost_tokens(vit):
    shorter = KeepTokens(keep=9, method="stride", at="vision:1")(vit.plain_vit()).model
    found = attention_sites(shorter, "")
    assert [(s.start, s.count, s.why_not) for s in found] == [(1, 16, ""), (1, 9, ""), (1, 9, "")]


def test_blocks_that_cannot_are_left_out_unless_they_are_named(vit):
    half = edited(vit.plain_vit(), masked)
    result = MergeAttention(**SMALL)(half)
    assert [n.kind for n in result.notes] == ["skipped", "matched", "matched"]
    assert "mask of its own" in result.notes[0].why
    assert "block 0" in refused(lambda: MergeAttention(**SMALL, blocks=[0])(half)).what
    assert MergeAttention(**SMALL, blocks=[1, 2])(half).changed
