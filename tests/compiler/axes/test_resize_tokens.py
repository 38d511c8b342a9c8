"""Keeping K of N tokens: the edited graph equals the graph that was built for K tokens.

The reference is never the code under test: either the outputs of the original, gathered, or the
same network built a second time with K rows, its tables cut by numpy; both run in ONNX Runtime.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.errors import JobFault

N, D, HEADS = 9, 12, 3
KEEP = [0, 2, 3, 7]


@pytest.fixture
def weights(rng):
    sizes = {"q": (D, D), "k": (D, D), "v": (D, D), "o": (D, D), "up": (D, 20), "down": (20, D)}
    tables = {"positions": (1, N, D), "classifier": (D, 5), "cls": (1, 1, D)}
    return {name: rng.normal(size=size) * 0.3 for name, size in (sizes | tables).items()}


def block(net, x, n, w, mask=None, rotate=None):
    """One transformer block; every reshape says its sizes in full."""
    hd = D // HEADS
    normed = net("LayerNormalization", x, net.weight(np.ones(D)), net.weight(np.zeros(D)))

    def heads(name):
        split = net(
            "Reshape", net("MatMul", normed, net.weight(w[name])), net.ints(1, n, HEADS, hd)
        )
        return net("Transpose", split, perm=[0, 2, 1, 3])

    q, k, v = (heads(name) for name in "qkv")
    if rotate:
        q, k = (net("RotaryEmbedding", t, *rotate) for t in (q, k))
    seen = net("Transpose", net("Attention", q, k, v, mask), perm=[0, 2, 1, 3])
    x = net("Add", x, net("MatMul", net("Reshape", seen, net.ints(1, n, D)), net.weight(w["o"])))
    return net("Add", x, mlp(net, x, w))


def mlp(net, x, w):
    hidden = net("Gelu", net("MatMul", x, net.weight(w["up"])))
    return net("MatMul", hidden, net.weight(w["down"]))


def tokens(rng, rows=N):
    return rng.normal(size=(1, rows, D)).astype(np.float32)


def test_work_on_single_tokens_is_gathered(new_net, resized, run, rng, weights):
    net = new_net()
    x = net.input("x", 1, N, D)
    flat = net("Reshape", x, net.ints(N, D))
    y = net("Reshape", mlp(net, flat, weights), net.ints(1, N, HEADS, D // HEADS))
    y = net("Reshape", net("Transpose", y, perm=[0, 2, 1, 3]), net.ints(HEADS, N, D // HEADS))
    model = net.build(y=net("Softmax", y))
    small, data = resized(model, "x", 1, len(KEEP)), tokens(rng)
    expected = run(model, {"x": data})["y"][:, KEEP]
    np.testing.assert_allclose(run(small, {"x": data[:, KEEP]})["y"], expected, rtol=1e-5)


def blocks(new_net, w, rows):
    net = new_net()
    x = net.input("x", 1, rows, D)
    return net.build(y=block(net, block(net, x, rows, w), rows, w))


def test_attention_sees_the_tokens_that_are_left(new_net, resized, run, rng, weights):
    small = resized(blocks(new_net, weights, N), "x", 1, len(KEEP))
    data = tokens(rng, len(KEEP))
    expected = run(blocks(new_net, weights, len(KEEP)), {"x": data})["y"]
    np.testing.assert_allclose(run(small, {"x": data})["y"], expected, rtol=1e-5)


def test_attention_equals_the_softmax_written_out(new_net, resized, run, rng, weights):
    net = new_net()
    q, k, v = (net.input(name, 1, HEADS, N, 4) for name in "qkv")
    small = resized(net.build(y=net("Attention", q, k, v)), "k", 2, len(KEEP))
    a, b, c = (rng.normal(size=(1, HEADS, N, 4)).astype(np.float32) for _ in range(3))
    scores = np.exp(a @ b[:, :, KEEP].transpose(0, 1, 3, 2) / 2)
    expected = scores / scores.sum(-1, keepdims=True) @ c[:, :, KEEP]
    got = run(small, {"q": a, "k": b[:, :, KEEP], "v": c[:, :, KEEP]})["y"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def classifier(new_net, w, rows, table, readout):
    """Class token + patches + position table -> block -> class token -> scores."""
    net = new_net()
    patches = net.input("patches", 1, rows, D)
    x = net("Concat", net.weight(w["cls"], "cls"), patches, axis=1)
    x = net("Add", x, net.weight(table, "positions"))
    x = block(net, x, rows + 1, w)
    match readout:
        case "slice":
            first = net("Slice", x, net.ints(0), net.ints(1), net.ints(1))
            first = net("Squeeze", first, net.ints(1))
        case "scalar":
            first = net("Gather", x, net.weight(np.int64(0)), axis=1)
        case "index":
            first = net("Squeeze", net("Gather", x, net.ints(0), axis=1), net.ints(1))
        case "rest":
            rest = net("Slice", x, net.ints(1), net.ints(rows + 1), net.ints(1))
            first = net("ReduceMean", rest, net.ints(1), keepdims=0)
    return net.build(scores=net("MatMul", first, net.weight(w["classifier"])))


@pytest.mark.parametrize("readout", ["slice", "scalar", "index", "rest"])
def test_a_class_token_stays_when_patches_go(readout, new_net, resized, run, rng, weights):
    table = rng.normal(size=(1, N + 1, D))
    model = classifier(new_net, weights, N, table, readout)
    small = resized(model, "patches", 1, len(KEEP), KEEP)
    cut = table[:, [0, *(k + 1 for k in KEEP)]]
    reference = classifier(new_net, weights, len(KEEP), cut, readout)
    data = {"patches": tokens(rng, len(KEEP))}
    np.testing.assert_allclose(
        run(small, data)["scores"], run(reference, data)["scores"], rtol=1e-5
    )


def test_a_position_table_needs_keep_and_is_named(new_net, resized, rng, weights):
    model = classifier(new_net, weights, N, rng.normal(size=(1, N + 1, D)), "slice")
    with pytest.raises(JobFault, match="must be known when compiling") as caught:
        resized(model, "patches", 1, len(KEEP))
    assert caught.value.code == "EV211" and "positions" in caught.value.what


def test_the_sum_of_class_token_and_patches_is_not_one_axis(
    new_net, resized, value_of, rng, weights
):
    model = classifier(new_net, weights, N, rng.normal(size=(1, N + 1, D)), "slice")
    with pytest.raises(JobFault, match=r"concatenation of .* name the part") as caught:
        resized(model, "Concat_0", 1, 5, [0, 1, 2, 3, 4])
    assert "Concat_0" in caught.value.what
    found = analyse(model.graph)
    one, patches = parts_of(found.of(value_of(model, "Concat_0"))[1])
    assert one == () and patches[0].size == N


def causal(new_net, w, rows, mask, positions):
    """A decoder block: causal mask [N,N], rotary angles computed from a stored arange."""
    net = new_net()
    x = net.input("x", 1, rows, D)
    places = net("Unsqueeze", net("Cast", net.weight(positions, "arange"), to=1), net.ints(-1))
    angles = net("Mul", places, net.weight(np.array([[[1.0, 0.1]]])))
    rotate = (net("Cos", angles), net("Sin", angles))
    return net.build(y=block(net, x, rows, w, net.weight(mask, "mask"), rotate))


@pytest.mark.parametrize("kind", [np.float32, np.bool_])
def test_masks_and_positions_along_the_tokens_are_cut(kind, new_net, resized, run, rng, weights):
    """Kept tokens keep their original positions and see what they saw."""
    mask = np.tri(N, dtype=bool)
    mask = mask if kind is np.bool_ else np.where(mask, 0, -1e9).astype(np.float32)
    model = causal(new_net, weights, N, mask, np.arange(N)[None])
    small = resized(model, "x", 1, len(KEEP), KEEP)
    cut = mask[np.ix_(KEEP, KEEP)]
    reference = causal(new_net, weights, len(KEEP), cut, np.array(KEEP)[None])
    data = {"x": tokens(rng, len(KEEP))}
    np.testing.assert_allclose(run(small, data)["y"], run(reference, data)["y"], rtol=1e-5)
    for name, array in (("mask~1", cut), ("arange~1", np.array(KEEP)[None])):
        kept = small.graph.initializers[name].const_value.numpy()
        np.testing.assert_array_equal(kept, array)
        assert kept.dtype == array.dtype


def test_all_tokens_but_one(new_net, resized, run, rng, weights):
    small = resized(blocks(new_net, weights, N), "x", 1, 1)
    data = tokens(rng, 1)
    expected = run(blocks(new_net, weights, 1), {"x": data})["y"]
    np.testing.assert_allclose(run(small, {"x": data})["y"], expected, rtol=1e-5)
