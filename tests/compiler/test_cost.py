"""Multiply-accumulates against hand computation, op by op and for a whole decoder."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.cost import Cost, attention_scores, count
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.tokens.keep_tokens import KeepTokens


def z(*shape):
    return np.zeros(shape, np.float32)


QKV = "float[1,4,5,8] q, float[1,4,9,8] k, float[1,4,9,6] v", "float[1,4,5,6] y"
GROUPED = "float[1,4,5,8] q, float[1,2,9,8] k, float[1,2,9,8] v", "float[1,4,5,8] y"
FOLDED = "float[1,5,32] q, float[1,9,16] k, float[1,9,16] v", "float[1,5,32] y"
PAST, NOW = ", float[1,2,9,8] p, float[1,2,9,8] r", ", float[1,2,10,8] a, float[1,2,10,8] b"
STEP = "float[1,4,1,8] q, float[1,2,1,8] k, float[1,2,1,8] v" + PAST, "float[1,4,1,8] y" + NOW
ONE = "float[1,1,32] q, float[1,1,16] k, float[1,1,16] v" + PAST, "float[1,1,32] y" + NOW
HEADS = "<q_num_heads = 4, kv_num_heads = 2>"


@pytest.mark.parametrize(
    ("ports", "body", "arrays", "macs"),
    [
        (("float[2,7,48] x", "float[2,7,40] y"), "y = MatMul(x, w)", {"w": z(48, 40)},
         2 * 7 * 48 * 40),
        (("float[2,3,5,7] x, float[2,3,7,4] z", "float[2,3,5,4] y"), "y = MatMul(x, z)", {},
         2 * 3 * 5 * 7 * 4),
        (("float[48] x", "float[40] y"), "y = MatMul(x, w)", {"w": z(48, 40)}, 48 * 40),
        (("float[7,48] x", "float[7] y"), "y = MatMul(x, w)", {"w": z(48)}, 7 * 48),
        (("float[7,48] x", "float[7,40] y"), "y = Gemm(x, w)", {"w": z(48, 40)}, 7 * 48 * 40),
        (("float[48,7] x", "float[7,40] y"), "y = Gemm<transA = 1, transB = 1>(x, w)",
         {"w": z(40, 48)}, 7 * 48 * 40),
        (("float[1,3,8,8] x", "float[1,10,4,4] y"), "y = Conv<strides = [2,2]>(x, w)",
         {"w": z(10, 3, 2, 2)}, 10 * 4 * 4 * 3 * 2 * 2),
        (("float[1,12,8,8] x", "float[1,12,8,8] y"),
         "y = Conv<group = 12, pads = [1,1,1,1]>(x, w)", {"w": z(12, 1, 3, 3)}, 12 * 8 * 8 * 9),
        (("float[1,3,8,8] x", "float[1,10,18,18] y"),
         "y = ConvTranspose<strides = [2,2]>(x, w)", {"w": z(3, 10, 4, 4)}, 3 * 8 * 8 * 10 * 4 * 4),
        (("float[1,4,8,8] x", "float[1,6,9,9] y"), "y = ConvTranspose<group = 2>(x, w)",
         {"w": z(4, 3, 2, 2)}, 4 * 8 * 8 * 3 * 2 * 2),
        (("float[2,3,5,7] x, float[7,4] z", "float[2,3,5,4] y"),
         'y = Einsum<equation = "...ij,jk->...ik">(x, z)', {}, 2 * 3 * 5 * 7 * 4),
        (("float[2,5,7] x, float[2,4,7] z", "float[2,5,4] y"),
         'y = Einsum<equation = "bij, bkj -> bik">(x, z)', {}, 2 * 5 * 7 * 4),
        (("float[5,7] x", "float[7,5] y"), 'y = Einsum<equation = "ij->ji">(x)', {}, 0),
        (QKV, "y = Attention(q, k, v)", {}, 4 * 5 * 9 * 8 + 4 * 5 * 9 * 6),
        (GROUPED, "y = Attention(q, k, v)", {}, 2 * 4 * 5 * 9 * 8),  # four heads share two of keys
        (FOLDED, f"y = Attention{HEADS}(q, k, v)", {}, 2 * 4 * 5 * 9 * 8),
        (STEP, "y, a, b = Attention(q, k, v, , p, r)", {}, 2 * 4 * 1 * 10 * 8),
        (ONE, f"y, a, b = Attention{HEADS}(q, k, v, , p, r)", {}, 2 * 4 * 1 * 10 * 8),
        (("float[9,9] x", "float[9,9] y"), "a = Softmax(x) b = Add(a, x) y = Gelu(b)", {}, 0),
    ],
    ids=range(19),
)  # fmt: skip
def test_macs_by_hand(graph, ports, body, arrays, macs):
    part = graph(f"({ports[0]}) => ({ports[1]}) {{ {body} }}", **arrays)
    assert count(part).macs == macs


@pytest.mark.parametrize(
    ("ports", "inputs", "scores"),
    [
        (QKV, "(q, k, v)", 4 * 5 * 9),
        (FOLDED, f"{HEADS}(q, k, v)", 4 * 5 * 9),
        ((STEP[0], STEP[1]), "(q, k, v, , p, r)", 4 * 1 * 10),
    ],
)
def test_scores_by_hand(graph, ports, inputs, scores):
    out = "y, a, b" if "p" in inputs else "y"
    part = graph(f"({ports[0]}) => ({ports[1]}) {{ {out} = Attention{inputs} }}")
    assert attention_scores(part.graph.node(0)) == scores


def test_bytes_and_nodes(graph):
    part = graph(
        "(float[7,48] x) => (float[7,40] y) { a = MatMul(x, w) y = Add(a, b) }",
        w=z(48, 40),
        b=z(40),
    )
    assert count(part) == Cost(7 * 48 * 40, (48 * 40 + 40) * 4, 2)


def test_a_whole_micro_decoder_by_hand(make_micro):
    rows, d, hd, heads, kv, words, layers = 15, 8, 4, 2, 1, 16, 3
    matrices = d * heads * hd + 2 * d * kv * hd + heads * hd * d + 2 * d * d
    attention = 2 * heads * hd
    model = make_micro(layers=layers)
    prefill = layers * (rows * matrices + attention * rows * rows) + d * words
    assert count(model.parts["prefill"]).macs == prefill
    decode = layers * (matrices + attention * (20 + 1)) + d * words
    assert count(model.parts["decode"]).macs == decode
    assert count(model.parts["vision"]).macs == 4 * 3 * 3 * (3 * 2 * 2)
    assert count(model.parts["connector"]).macs == 9 * 4 * 8
    assert count(model.parts["embed"]).macs == 0


def test_int8_weights_cost_the_same_macs_and_a_quarter_of_the_bytes(tiny_model):
    small = QuantizeWeights()(tiny_model).model
    for role, part in tiny_model.parts.items():
        before, after = count(part), count(small.parts[role])
        assert after.macs == before.macs and after.weight_bytes < 0.3 * before.weight_bytes


def test_fewer_tokens_cost_fewer_macs_by_the_formula(make_micro):
    model = KeepTokens(keep=4)(make_micro()).model
    rows, matrices = 4 + 6, 8 * 8 + 2 * 8 * 4 + 8 * 8 + 2 * 8 * 8
    assert count(model.parts["prefill"]).macs == rows * matrices + 2 * 8 * rows * rows + 8 * 16
    assert count(model.parts["decode"]).macs == matrices + 2 * 8 * (15 + 1) + 8 * 16
