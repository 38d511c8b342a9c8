"""Deep graphs are analysed in milliseconds a layer, and not deeper than Python's stack allows."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize, size_of

D, H, KV, HD, M, ROWS = 16, 4, 2, 4, 24, 8


def decoder(new_net, layers: int, flip: bool):
    """A Llama-like decoder. `flip` puts the residual on the right of every Add, so that union-find
    hangs the whole stream below each new axis."""
    net = new_net()
    rng = np.random.default_rng(0)
    x = net.input("x", 1, ROWS, D)
    mask = net.input("mask", 1, 1, ROWS, ROWS + 5, dtype="BOOL")
    cos, sin = (net.input(name, 1, ROWS, HD // 2) for name in ("cos", "sin"))
    ones = net.weight(np.ones(D), "ones")
    to = {n: net.ints(1, ROWS, n, HD) for n in (H, KV)}
    flat = net.ints(1, ROWS, H * HD)

    def matrix(y, rows, columns):
        return net("MatMul", y, net.weight(rng.normal(size=(rows, columns)) / 8))

    def add(a, b):
        return net("Add", b, a) if flip else net("Add", a, b)

    for i in range(layers):
        past = [net.input(f"past_{n}_{i}", 1, KV, 5, HD) for n in "kv"]
        y = net("RMSNormalization", x, ones)
        q, k, v = (
            net("Transpose", net("Reshape", matrix(y, D, n * HD), to[n]), perm=[0, 2, 1, 3])
            for n in (H, KV, KV)
        )
        q, k = (net("RotaryEmbedding", t, cos, sin) for t in (q, k))
        k, v = (net("Concat", a, b, axis=2) for a, b in zip(past, (k, v), strict=True))
        y = net("Transpose", net("Attention", q, k, v, mask), perm=[0, 2, 1, 3])
        x = add(x, matrix(net("Reshape", y, flat), H * HD, D))
        y = net("RMSNormalization", x, ones)
        gate, up = matrix(y, D, M), matrix(y, D, M)
        y = net("Mul", net("Mul", gate, net("Sigmoid", gate)), up)
        x = add(x, matrix(y, M, D))
    return net.build(net("RMSNormalization", x, ones))


@pytest.mark.parametrize("flip", [False, True])
def test_a_decoder_of_32_layers_takes_well_under_two_seconds(flip, new_net, agrees):
    model = decoder(new_net, 32, flip)
    start = time.process_time()
    found = analyse(model.graph)
    assert time.process_time() - start < 1
    x = model.graph.inputs[0]
    for term, keep in ((found.of(x)[1], None), (found.of(x)[2], range(D - 2))):
        start = time.process_time()
        resize(found, term, size_of(term) - 2, keep)
        assert time.process_time() - start < 1
    agrees(model, found)
    assert list(model.graph.outputs[0].shape) == [1, ROWS - 2, D - 2]


def test_time_grows_with_the_graph_and_not_with_its_square(new_net):
    took = []
    for layers in (32, 256):
        model = decoder(new_net, layers, flip=True)
        best = []
        for _ in range(3):
            start = time.process_time()
            analyse(model.graph)
            best.append(time.process_time() - start)
        took.append(min(best))
    assert took[1] < 8 * took[0] * 3


def test_a_chain_of_a_thousand_concats_is_not_too_deep(new_net, value_of):
    """A cache that grows by a row at a time, unrolled."""
    net = new_net()
    x = cache = net.input("cache", 1, 7, 2)
    for i in range(1000):
        cache = net("Concat", cache, net.input(f"row_{i}", 1, 1, 2), axis=1)
    model = net.build(cache)
    found = analyse(model.graph)
    resize(found, found.of(x)[1], 3)
    assert list(cache.shape) == [1, 1003, 2]


def test_a_sequence_unrolled_into_single_tokens(new_net, agrees):
    net = new_net()
    x = net.input("x", 1, 96, 2)
    tokens = net("Split", x, net.ints(*[1] * 96), axis=1, outputs=96)
    model = net.build(net("Concat", *tokens[::-1], axis=1))
    found = analyse(model.graph)
    resize(found, found.of(x)[2], 1)
    agrees(model, found)
