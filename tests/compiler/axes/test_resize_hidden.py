"""Hidden units, classes, quantised weights and the KV cache.

Reference: a hidden unit whose row of the second matrix is zero adds nothing, so removing it must
give what the original gives once those rows are zeroed.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize

D, M = 6, 10
KEEP = [0, 3, 4, 8]
GONE = [i for i in range(M) if i not in KEEP]


def mlp_model(new_net, form, w):
    """`form`: plain, gemm, gated (SwiGLU, two up projections) or packed (one for both)."""
    net = new_net()
    x = net.input("x", 5, D)
    wide = {k: net.weight(v, k) for k, v in w.items()}
    if form == "plain":
        hidden = net("Gelu", net("Add", net("MatMul", x, wide["up"]), wide["bias"]), name="hidden")
    elif form == "gemm":
        turned = net.weight(w["up"].T, "turned")
        hidden = net("Relu", net("Gemm", x, turned, wide["bias"], transB=1), name="hidden")
    else:
        if form == "gated":
            up, gate = net("MatMul", x, wide["up"]), net("MatMul", x, wide["gate"])
        else:
            both = net("MatMul", x, net.weight(np.concatenate([w["gate"], w["up"]], 1), "packed"))
            gate, up = net("Split", both, axis=-1, num_outputs=2, outputs=2)
        swish = net("Mul", gate, net("Sigmoid", gate))
        hidden = net("Mul", swish, up, name="hidden")
    model = net.build(y=net("MatMul", hidden, wide["down"]))
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[name]
    return model


def mlp_weights(rng):
    sizes = {"up": (D, M), "gate": (D, M), "bias": M, "down": (M, D)}
    return {name: rng.normal(size=size) for name, size in sizes.items()}


def zeroed(w):
    down = w["down"].copy()
    down[GONE] = 0
    return w | {"down": down}


@pytest.mark.parametrize("form", ["plain", "gemm", "gated", "packed"])
def test_hidden_units_leave_both_matrices_and_the_bias(form, new_net, resized, run, rng):
    w, data = mlp_weights(rng), {"x": rng.normal(size=(5, D)).astype(np.float32)}
    model = mlp_model(new_net, form, w)
    small = resized(model, "hidden", 1, len(KEEP), KEEP)
    expected = run(mlp_model(new_net, form, zeroed(w)), data)["y"]
    np.testing.assert_allclose(run(small, data)["y"], expected, rtol=1e-4, atol=1e-5)
    for name, value in small.graph.initializers.items():
        assert M not in value.shape and 2 * M not in value.shape, name


@pytest.mark.parametrize("form", ["plain", "gemm", "gated", "packed"])
def test_the_axis_between_two_matrices_is_called_hidden(form, new_net, value_of, rng):
    model = mlp_model(new_net, form, mlp_weights(rng))
    assert analyse(model.graph).names(value_of(model, "hidden")) == ("?5", "hidden")


def test_only_an_axis_between_two_matrices_is_called_hidden(new_net, rng):
    net = new_net()
    y = net("MatMul", net.input("x", 5, D), net.weight(rng.normal(size=(D, M))))
    found = analyse(net.build(y).graph)
    assert found.names(y) == ("?5", "?10")


def test_classes_of_a_head(new_net, resized, run, rng):
    net, keep = new_net(), [1, 4]
    w, bias = rng.normal(size=(D, 7)), rng.normal(size=7)
    y = net("Gemm", net.input("x", 5, D), net.weight(w.T), net.weight(bias), transB=1)
    model = net.build(logits=y)
    signature = {"logits": ("batch", "class")}
    assert analyse(model.graph, signature).names(y) == ("batch", "class")
    small = resized(model, "logits", 1, 2, keep, signature)
    x = rng.normal(size=(5, D)).astype(np.float32)
    expected = x @ w[:, keep] + bias[keep]
    np.testing.assert_allclose(run(small, {"x": x})["logits"], expected, rtol=1e-4, atol=1e-5)
    assert sorted(list(v.shape) for v in small.graph.initializers.values()) == [[2], [2, D]]


def quantised_model(new_net, up, down, s_up, s_down, points):
    """int8 matrices, one scale a column; the up projection has zero points as well."""
    net = new_net()
    zero = net.weight(points, "points")
    up = net("DequantizeLinear", net.weight(up, "up"), net.weight(s_up, "s_up"), zero, axis=1)
    down = net("DequantizeLinear", net.weight(down, "down"), net.weight(s_down, "s_down"), axis=1)
    hidden = net("Relu", net("MatMul", net.input("x", 5, D), up), name="hidden")
    return net.build(y=net("MatMul", hidden, down))


def test_quantised_weights_and_their_scales_are_cut(new_net, resized, run, rng, value_of):
    up, down = (rng.integers(-127, 128, s, np.int8) for s in ((D, M), (M, D)))
    s_up, s_down = rng.uniform(0.01, 0.02, M), rng.uniform(0.01, 0.02, D)
    points, x = rng.integers(-5, 5, M, np.int8), rng.normal(size=(5, D)).astype(np.float32)
    model = quantised_model(new_net, up, down, s_up, s_down, points)
    assert analyse(model.graph).names(value_of(model, "hidden"))[1] == "hidden"
    small = resized(model, "hidden", 1, len(KEEP), KEEP)
    stored = {k: v.const_value.numpy() for k, v in small.graph.initializers.items()}
    assert stored["up~1"].dtype == stored["down~1"].dtype == stored["points~1"].dtype == np.int8
    np.testing.assert_array_equal(stored["up~1"], up[:, KEEP])
    np.testing.assert_array_equal(stored["down~1"], down[KEEP])
    assert stored["s_up~1"].shape == (len(KEEP),) and stored["s_down"].shape == (D,)
    down[GONE] = 0
    expected = run(quantised_model(new_net, up, down, s_up, s_down, points), {"x": x})["y"]
    np.testing.assert_allclose(run(small, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


C, H, KV, HD = 12, 4, 2, 3


def decode_model(new_net, fused_op: bool):
    """One new row against a cache of C rows; the mask covers both."""
    net = new_net()
    q, k, v = (net.input(n, 1, heads, 1, HD) for n, heads in (("q", H), ("k", KV), ("v", KV)))
    past = [net.input(f"past_{n}", 1, KV, C, HD) for n in "kv"]
    mask = net.input("mask", 1, 1, 1, C + 1, dtype="BOOL")
    if fused_op:
        y, *_ = net("Attention", q, k, v, mask, *past, outputs=3)
    else:
        joined = [net("Concat", a, b, axis=2) for a, b in zip(past, (k, v), strict=True)]
        y = net("Attention", q, *joined, mask)
    return net.build(y=y)


SIGNATURE = {f"past_{n}": ("batch", "head", "kv", "head_dim") for n in "kv"}


@pytest.mark.parametrize("fused_op", [False, True])
@pytest.mark.parametrize("capacity", [5, 20])
def test_the_capacity_of_a_cache(fused_op, capacity, new_net, resized, run, rng, feeds_of):
    """Rows that the mask hides may come or go; nothing is stored, so no `keep` is needed."""
    model = decode_model(new_net, fused_op)
    small, filled = resized(model, "past_k", 2, capacity, None, SIGNATURE), 4
    assert [list(v.shape) for v in small.graph.inputs[3:]] == [
        [1, KV, capacity, HD],
        [1, KV, capacity, HD],
        [1, 1, 1, capacity + 1],
    ]
    feeds = feeds_of(model)

    def at(rows):
        out = dict(feeds)
        for name in ("past_k", "past_v"):
            out[name] = np.zeros((1, KV, rows, HD), np.float32)
            out[name][:, :, :filled] = feeds[name][:, :, :filled]
        out["mask"] = np.array([i < filled or i == rows for i in range(rows + 1)])[None, None, None]
        return out

    expected = run(model, at(C))["y"]
    np.testing.assert_allclose(run(small, at(capacity))["y"], expected, rtol=1e-5)


@pytest.mark.parametrize("fused_op", [False, True])
def test_what_the_dimensions_of_a_cache_mean(fused_op, new_net, value_of):
    model = decode_model(new_net, fused_op)
    found = analyse(model.graph, SIGNATURE)
    assert found.names(value_of(model, "past_k")) == ("1", "head", "kv", "head_dim")
    assert found.names(value_of(model, "mask")) == ("1", "1", "1", "kv")
    assert found.names(value_of(model, "q")) == ("1", "head*group", "1", "head_dim")


def test_a_kv_head_leaves_cache_queries_and_result(new_net, run, feeds_of, agrees):
    model = decode_model(new_net, fused_op=False)
    feeds = feeds_of(model) | {"mask": np.ones((1, 1, 1, C + 1), bool)}
    whole = run(model, feeds)["y"]
    found = analyse(model.graph)
    resize(found, found.of(model.graph.inputs[3])[1], 1)
    agrees(model, found)
    kept = {k: v[:, H // KV :] if k == "q" else v[:, 1:] for k, v in feeds.items() if k != "mask"}
    got = run(model, kept | {"mask": feeds["mask"]})["y"]
    np.testing.assert_allclose(got, whole[:, H // KV :], rtol=1e-5)
