"""Removing heads and head channels, in every form in which exporters write attention.

Reference: a head whose rows of the output projection are zero adds nothing, so removing it from the
graph must give what the original gives once those rows are zeroed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.equations import parts_of

N, D, H, HD = 5, 10, 4, 6
FUSED = ["split", "slice", "stacked", "stacked_split", "per_head"]


def turn(net, x):
    return net("Transpose", x, perm=[0, 2, 1, 3])


def fused(net, x, w, bias, form):
    """q, k, v as [1,H,N,HD] from one matrix of D x 3 H HD."""
    y = net("Add", net("MatMul", x, net.weight(w, "qkv")), net.weight(bias, "qkv_bias"))
    match form:
        case "split":
            parts = net("Split", y, net.ints(*[H * HD] * 3), axis=-1, outputs=3)
        case "slice":
            border = [0, H * HD, 2 * H * HD, 3 * H * HD]
            parts = [
                net("Slice", y, net.ints(a), net.ints(b), net.ints(2)) for a, b in pairwise(border)
            ]
        case "stacked" | "stacked_split":
            y = net("Reshape", y, net.ints(1, N, 3, H, HD))
            y = net("Transpose", y, perm=[2, 0, 3, 1, 4])
            if form == "stacked":
                return [net("Gather", y, net.weight(np.int64(i)), axis=0) for i in range(3)]
            parts = net("Split", y, axis=0, num_outputs=3, outputs=3)
            return [net("Squeeze", part, net.ints(0)) for part in parts]
        case "per_head":  # each head holds its own q, k, v side by side
            y = turn(net, net("Reshape", y, net.ints(1, N, H, 3 * HD)))
            return net("Split", y, axis=3, num_outputs=3, outputs=3)
    return [turn(net, net("Reshape", part, net.ints(1, N, H, HD))) for part in parts]


def project(net, seen, w_o, width=HD, heads=H):
    flat = net("Reshape", turn(net, seen), net.ints(1, N, heads * width))
    return net("MatMul", flat, net.weight(w_o, "o"))


def fused_model(new_net, w, bias, w_o, form):
    net = new_net()
    q, k, v = fused(net, net.input("x", 1, N, D), w, bias, form)
    return net.build(y=project(net, net("Attention", q, k, v, name="attention"), w_o))


def attention_of(model):
    return next(n for n in model.graph if n.op_type == "Attention")


def without(w_o, gone, outer=H):
    """The output projection with the rows of some heads zeroed."""
    left = w_o.reshape(outer, -1, w_o.shape[-1]).copy()
    left[gone] = 0
    return left.reshape(w_o.shape)


def data_for(rng):
    return {"x": rng.normal(size=(1, N, D)).astype(np.float32)}


@pytest.mark.parametrize("form", FUSED)
def test_heads_of_one_fused_matrix(form, new_net, run, rng, agrees):
    w, bias, w_o = (rng.normal(size=s) for s in ((D, 3 * H * HD), 3 * H * HD, (H * HD, D)))
    keep, gone, data = [0, 3], [1, 2], data_for(rng)
    expected = run(fused_model(new_net, w, bias, without(w_o, gone), form), data)["y"]
    model = fused_model(new_net, w, bias, w_o, form)
    found = analyse(model.graph)
    resize(found, found.of(attention_of(model).inputs[0])[1], 2, keep)
    agrees(model, found)
    np.testing.assert_allclose(run(model, data)["y"], expected, rtol=1e-4, atol=1e-4)
    shapes = {k.split("~")[0]: list(v.shape) for k, v in model.graph.initializers.items()}
    assert shapes["qkv"] == [D, 36] and shapes["qkv_bias"] == [36] and shapes["o"] == [12, D]


@pytest.mark.parametrize("form", FUSED)
def test_value_channels_of_one_fused_matrix(form, new_net, run, rng, agrees):
    """The width of V and O is an axis of its own, also where Q, K and V share a matrix; only where
    they share a reshape is it the width of Q and K as well, and then all three shrink together."""
    w, bias, w_o = (rng.normal(size=s) for s in ((D, 3 * H * HD), 3 * H * HD, (H * HD, D)))
    stacked, gone, keep = form.startswith("stacked"), [2, 5], [0, 1, 3, 4]
    if stacked:  # then the channels that go must not count in the scores either
        w.reshape(D, 3, H, HD)[:, 1][..., gone] = 0
        bias.reshape(3, H, HD)[1][..., gone] = 0
    data, zeroed = data_for(rng), w_o.reshape(H, HD, D).copy()
    zeroed[:, gone] = 0
    expected = run(fused_model(new_net, w, bias, zeroed.reshape(H * HD, D), form), data)["y"]
    model = fused_model(new_net, w, bias, w_o, form)
    found = analyse(model.graph)
    resize(found, found.of(attention_of(model).inputs[2])[3], 4, keep)
    agrees(model, found)
    np.testing.assert_allclose(run(model, data)["y"], expected, rtol=1e-4, atol=1e-4)
    assert attention_of(model).inputs[0].shape[3] == (4 if stacked else HD)


def separate_model(new_net, w, kv_heads, flat=False, normed=False):
    """Separate matrices with biases; `flat` leaves the heads to the op's attributes."""
    net = new_net()
    x = net.input("x", 1, N, D)

    def heads(name, count):
        y = net("MatMul", x, net.weight(w[name], name))
        y = net("Add", y, net.weight(w[f"{name}_bias"], f"{name}_bias"))
        if flat:
            return y
        y = net("Reshape", y, net.ints(1, N, count, HD))
        if normed and name in "qk":  # Qwen3: queries and keys are normalised head by head
            y = net("RMSNormalization", y, net.weight(np.linspace(1, 2, HD), f"{name}_norm"))
        return turn(net, y)

    q, k, v = heads("q", H), heads("k", kv_heads), heads("v", kv_heads)
    if flat:
        seen = net("Attention", q, k, v, q_num_heads=H, kv_num_heads=kv_heads)
        return net.build(y=net("MatMul", seen, net.weight(w["o"], "o")))
    return net.build(y=project(net, net("Attention", q, k, v), w["o"]))


def separate_weights(rng, kv_heads):
    widths = {"q": H * HD, "k": kv_heads * HD, "v": kv_heads * HD}
    w = {name: rng.normal(size=(D, width)) for name, width in widths.items()}
    w |= {f"{name}_bias": rng.normal(size=width) for name, width in widths.items()}
    return w | {"o": rng.normal(size=(H * HD, D))}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_kv_head_goes_with_its_group_of_query_heads(flat, kv_heads, new_net, run, rng, agrees):
    w, data, group = separate_weights(rng, kv_heads), data_for(rng), H // kv_heads
    gone = [0]
    keep = [i for i in range(kv_heads) if i not in gone]
    zeroed = w | {"o": without(w["o"], gone, outer=kv_heads)}
    expected = run(separate_model(new_net, zeroed, kv_heads, flat), data)["y"]
    model = separate_model(new_net, w, kv_heads, flat)
    found = analyse(model.graph)
    k = attention_of(model).inputs[1]
    resize(found, (expand(found.of(k)[2 if flat else 1])[0],), len(keep), keep)
    agrees(model, found)
    np.testing.assert_allclose(run(model, data)["y"], expected, rtol=1e-4, atol=1e-4)
    shapes = {k.split("~")[0]: list(v.shape) for k, v in model.graph.initializers.items()}
    assert shapes["q"] == [D, len(keep) * group * HD] and shapes["k_bias"] == [len(keep) * HD]
    if flat:
        assert attention_of(model).attributes["q_num_heads"].value == len(keep) * group
        assert attention_of(model).attributes["kv_num_heads"].value == len(keep)


def test_one_query_head_of_every_group(new_net, run, rng, agrees):
    """The group is an axis too: drop the second query head of each kv head, keep all kv heads."""
    w, data = separate_weights(rng, 2), data_for(rng)
    zeroed = w["o"].reshape(2, 2, HD, D).copy()
    zeroed[:, 1] = 0
    expected = run(separate_model(new_net, w | {"o": zeroed.reshape(-1, D)}, 2), data)["y"]
    model = separate_model(new_net, w, 2)
    found = analyse(model.graph)
    q = attention_of(model).inputs[0]
    assert found.names(q) == ("1", "head*group", "token", "head_dim")
    resize(found, (expand(found.of(q)[1])[1],), 1, [0])
    agrees(model, found)
    np.testing.assert_allclose(run(model, data)["y"], expected, rtol=1e-4, atol=1e-4)


def test_a_norm_of_queries_and_keys_is_cut_with_their_width(new_net, run, rng, agrees):
    """Its scale lies along head_dim, which keeps that name although the norm says channel."""
    model = separate_model(new_net, separate_weights(rng, 2), 2, normed=True)
    found = analyse(model.graph)
    q, k, _ = attention_of(model).inputs[:3]
    assert found.names(q)[3] == found.names(k)[3] == "head_dim"
    resize(found, found.of(k)[3], 4, [0, 2, 3, 5])
    agrees(model, found)
    shapes = {k.split("~")[0]: list(v.shape) for k, v in model.graph.initializers.items()}
    assert shapes["q_norm"] == shapes["k_norm"] == [4] and shapes["v"] == [D, 2 * HD]


def rotated_model(new_net, count, w_q, w_k, w_v, w_o, cos, sin):
    """Rotate-half positions written out, as exporters below opset 23 do."""
    net = new_net()
    rows, width = cos.shape
    x = net.input("x", 1, rows, D)
    cos, sin = net.weight(cos[None, None], "cos"), net.weight(sin[None, None], "sin")

    def heads(w):
        y = net("MatMul", x, net.weight(w))
        return turn(net, net("Reshape", y, net.ints(1, rows, count, w.shape[1] // count)))

    def rotate(y):
        first = net("Slice", y, net.ints(0), net.ints(width // 2), net.ints(3))
        second = net("Slice", y, net.ints(width // 2), net.ints(2**63 - 1), net.ints(3))
        half = net("Concat", net("Neg", second), first, axis=-1)
        return net("Add", net("Mul", y, cos), net("Mul", half, sin))

    seen = turn(
        net, net("Attention", rotate(heads(w_q)), rotate(heads(w_k)), heads(w_v), scale=0.3)
    )
    flat = net("Reshape", seen, net.ints(1, rows, w_o.shape[0]))
    return net.build(y=net("MatMul", flat, net.weight(w_o)))


@pytest.mark.parametrize("what", ["pair", "head", "token"])
def test_rotary_positions_written_out(what, new_net, run, rng, agrees):
    q, k, v = (rng.normal(size=(D, H, HD)) for _ in range(3))
    o, table = rng.normal(size=(H, HD, D)), rng.uniform(-1, 1, (2, N, HD))

    def model_of(q, k, v, o, table):
        count, (q, k, v) = q.shape[1], (m.reshape(D, -1) for m in (q, k, v))
        return rotated_model(new_net, count, q, k, v, o.reshape(-1, D), *table)

    model, keep = model_of(q, k, v, o, table), [0, 2]
    found = analyse(model.graph)
    y = attention_of(model).inputs[0]
    if what == "pair":
        both = [*keep, *(i + HD // 2 for i in keep)]
        resize(found, parts_of(found.of(y)[3])[0], 2, keep)
        reference = model_of(q[..., both], k[..., both], v, o, table[..., both])
    elif what == "head":
        resize(found, found.of(y)[1], 2, keep)
        reference = model_of(q[:, keep], k[:, keep], v[:, keep], o[keep], table)
    else:
        resize(found, found.of(y)[2], 2, keep)
        reference = model_of(q, k, v, o, table[:, keep])
    agrees(model, found)
    data = {"x": rng.normal(size=(1, 2 if what == "token" else N, D)).astype(np.float32)}
    np.testing.assert_allclose(
        run(model, data)["y"], run(reference, data)["y"], rtol=1e-4, atol=1e-5
    )
