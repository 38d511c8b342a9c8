"""Blocks found by structure alone: pre-norm, post-norm, parallel, fused q k v, one row only."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from edgevlm.compiler.blocks import find_blocks
from edgevlm.passes.cleanup.gather_early import GatherEarly

D, L = 4, 3
W = np.eye(D, dtype=np.float32)
SHAPES = {"split": np.array([1, L, 2, D // 2]), "join": np.array([1, L, D])}
ATTENTION = """
    q0 = MatMul({x}, w) q1 = Add(q0, bias) q2 = Reshape(q1, split)
    q = Transpose<perm = [0, 2, 1, 3]>(q2)
    k0 = MatMul({x}, w) k2 = Reshape(k0, split) k = Transpose<perm = [0, 2, 1, 3]>(k2)
    v0 = MatMul({x}, w) v2 = Reshape(v0, split) v = Transpose<perm = [0, 2, 1, 3]>(v2)
    a4 = Attention(q, k, v) a3 = Transpose<perm = [0, 2, 1, 3]>(a4) a = Reshape(a3, join)
    o0 = MatMul(a, w) o = Add(o0, bias)"""
NORM = "{y} = LayerNormalization<axis = -1>({x}, gain)"


@pytest.fixture
def made(graph):
    def make(body: str, **more: np.ndarray):
        head = f"(float[1,{L},{D}] x) => (float[1,{L},{D}] y)"
        arrays = {"w": W, "bias": np.ones(D, np.float32), "gain": np.ones(D, np.float32)}
        used = {k: v for k, v in (arrays | SHAPES | more).items() if re.search(rf"\b{k}\b", body)}
        return graph(f"{head} {{ {body} }}", **used)

    return make


def names(block):
    fields = ("entry", "normed", "attended", "middle", "mlp_normed", "mlp_out", "exit")
    return {f: v and v.name for f in fields for v in [getattr(block, f)]}


def test_pre_norm(made):
    part = made(
        f"{NORM.format(x='x', y='n')} {ATTENTION.format(x='n')} m = Add(x, o)"
        f"{NORM.format(x='m', y='h')} u = MatMul(h, w) g = Gelu(u) d = MatMul(g, w) y = Add(m, d)"
    )
    (block,) = find_blocks(part.graph)
    assert names(block) == {
        "entry": "x", "normed": "n", "attended": "o", "middle": "m", "mlp_normed": "h",
        "mlp_out": "d", "exit": "y",
    }  # fmt: skip
    assert block.index == 0 and block.attention.op_type == "Attention"


def test_layer_scale_and_a_scaled_query_are_on_the_way(made):
    part = made(
        f"{NORM.format(x='x', y='n')}"
        + ATTENTION.format(x="n").replace("q1 = Add(q0, bias)", "r = Add(q0, bias) q1 = Mul(r, c)")
        + "s = Mul(o, scale) m = Add(x, s)"
        f"{NORM.format(x='m', y='h')} u = MatMul(h, w) t = Mul(u, scale) y = Add(m, t)",
        c=np.float32(0.5), scale=np.ones(D, np.float32),
    )  # fmt: skip
    (block,) = find_blocks(part.graph)
    found = names(block)
    assert (found["entry"], found["attended"], found["mlp_out"], found["exit"]) == (
        "x", "s", "t", "y",
    )  # fmt: skip


def test_post_norm_is_a_block_without_a_second_sum(made):
    """x = norm(x + attention(x)): rows may still leave in front of it; modules are told missing."""
    part = made(
        f"{ATTENTION.format(x='x')} m = Add(x, o) {NORM.format(x='m', y='n')}"
        f"u = MatMul(n, w) g = Gelu(u) d = MatMul(g, w) z = Add(n, d) {NORM.format(x='z', y='y')}"
    )
    (block,) = find_blocks(part.graph)
    found = names(block)
    assert (found["entry"], found["normed"], found["exit"]) == ("x", "x", "m")
    assert found["middle"] is None and found["mlp_out"] is None


#: y = x + attention(n) + mlp(n), in every order of the two sums
PARALLEL = pytest.mark.parametrize(
    "sums",
    [
        "both = Add(o, d) y = Add(x, both)",
        "both = Add(x, o) y = Add(both, d)",
        "both = Add(x, d) y = Add(both, o)",
    ],
)


@PARALLEL
def test_parallel_attention_has_no_middle(made, sums):
    part = made(
        f"{NORM.format(x='x', y='n')} {ATTENTION.format(x='n')}"
        f"u = MatMul(n, w) g = Gelu(u) d = MatMul(g, w) {sums}"
    )
    (block,) = find_blocks(part.graph)
    found = names(block)
    assert (found["entry"], found["normed"], found["exit"]) == ("x", "n", "y")
    assert found["attended"] == "o" and found["middle"] is None and found["mlp_out"] is None


@PARALLEL
def test_parallel_blocks_do_not_take_each_other_for_their_mlp(made, sums):
    """Two of them, one behind the other."""
    body = f"{NORM.format(x='x', y='n')} {ATTENTION.format(x='n')} d = MatMul(n, w) {sums}"
    second = re.sub(r"\b(q0|q1|q2|q|k0|k2|k|v0|v2|v|a4|a3|a|o0|o|n|d|both)\b", r"\1_b", body)
    second = second.replace("(x", "(mid").replace("a_bxis", "axis")
    part = made(f"{body.replace('y = ', 'mid = ')} {second}")
    one, other = find_blocks(part.graph)
    assert (one.entry.name, one.exit.name) == ("x", "mid")
    assert (other.entry.name, other.exit.name) == ("mid", "y")
    assert one.middle is None and other.middle is None


def test_fused_q_k_v_of_one_product(made):
    part = made(
        f"{NORM.format(x='x', y='n')} qkv = MatMul(n, wide) qkvb = Add(qkv, widebias)"
        "five = Reshape(qkvb, three) turned = Transpose<perm = [2, 0, 3, 1, 4]>(five)"
        "q5, k5, v5 = Split<axis = 0, num_outputs = 3>(turned)"
        "q = Squeeze(q5, first) k = Squeeze(k5, first) v = Squeeze(v5, first)"
        "a4 = Attention(q, k, v) a3 = Transpose<perm = [0, 2, 1, 3]>(a4) a = Reshape(a3, join)"
        "o = MatMul(a, w) m = Add(x, o)"
        f"{NORM.format(x='m', y='h')} d = MatMul(h, w) y = Add(m, d)",
        wide=np.ones((D, 3 * D), np.float32), widebias=np.ones(3 * D, np.float32),
        three=np.array([1, L, 3, 2, D // 2]), first=np.array([0]),
    )  # fmt: skip
    (block,) = find_blocks(part.graph)
    assert names(block)["entry"] == "x" and names(block)["normed"] == "n"
    assert names(block)["exit"] == "y"


def test_attention_that_nothing_is_added_to_is_no_block(made):
    """A pooling head: it reads the tokens, and its answer is no residual stream."""
    assert find_blocks(made(f"{ATTENTION.format(x='x')} y = Identity(o)").graph) == []


def test_attention_of_something_unknown_is_no_block(made):
    part = made(
        ATTENTION.format(x="x").replace("MatMul(x, w) q1", "Softmax(x) q1") + "y = Add(x, o)"
    )
    assert find_blocks(part.graph) == []


def test_who_else_reads_what_attention_says_does_not_matter(made):
    """A score of tokens hangs on the way between Attention and the stream."""
    part = made(
        f"{NORM.format(x='x', y='n')} {ATTENTION.format(x='n')} m = Add(x, o)"
        "score = ReduceL2(o, last) more = Add(score, score)"
        f"{NORM.format(x='m', y='h')} d = MatMul(h, w) z = Add(m, d) y = Add(z, more)",
        last=np.array([-1]),
    )
    (block,) = find_blocks(part.graph)
    assert names(block)["middle"] == "m" and names(block)["exit"] == "z"


def test_blocks_of_a_tower_and_of_a_decoder_in_order(make_micro):
    model = make_micro(layers=4, tower=3)
    for role, count in (("vision", 3), ("prefill", 4)):
        blocks = find_blocks(model.parts[role].graph)
        assert [b.index for b in blocks] == list(range(count))
        for one, other in pairwise(blocks):
            assert one.exit is other.entry and one.middle is not None
    assert blocks[0].entry.name == "inputs_embeds"
    assert find_blocks(model.parts["connector"].graph) == []


def test_a_last_layer_that_computes_one_row_is_still_found(make_micro):
    """gather-early takes the row in front of the last layer's projection."""
    model = GatherEarly()(make_micro(layers=2)).model
    blocks = find_blocks(model.parts["prefill"].graph)
    assert [list(b.entry.shape) for b in blocks] == [[1, 15, 8]] * 2
    assert list(blocks[0].exit.shape) == [1, 15, 8] and list(blocks[1].exit.shape) == [1, 1, 8]


def test_the_bundled_model(tiny_model):
    for role, count in (("vision", 4), ("prefill", 4), ("decode", 4)):
        blocks = find_blocks(tiny_model.parts[role].graph)
        assert len(blocks) == count and all(b.middle is not None for b in blocks)
