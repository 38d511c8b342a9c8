"""Tokens that are folded into each other, and frames: what is one axis and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.errors import JobFault

D = 6


def pixel_shuffle(net, x, side: int = 4):
    """[1,16,D] -> [1,4,4D]: two by two neighbours become one token (SmolVLM's connector)."""
    half = side // 2
    y = net("Reshape", x, net.ints(1, side, half, 2 * D), name="rows")
    y = net("Transpose", y, perm=[0, 2, 1, 3])
    y = net("Reshape", y, net.ints(1, half, half, 4 * D), name="columns")
    y = net("Transpose", y, perm=[0, 2, 1, 3])
    return net("Reshape", y, net.ints(1, half * half, 4 * D), name="shuffled")


def test_a_token_that_pixel_shuffle_folds_cannot_be_dropped(new_net, resized):
    net = new_net()
    model = net.build(pixel_shuffle(net, net.input("x", 1, 16, D)))
    with pytest.raises(JobFault, match="is folded into") as caught:
        resized(model, "x", 1, 8, range(8))
    assert caught.value.code == "EV211" and "rows" in caught.value.what


def test_a_token_behind_pixel_shuffle_is_a_product_and_names_its_node(new_net, resized):
    net = new_net()
    model = net.build(net("Relu", pixel_shuffle(net, net.input("x", 1, 16, D))))
    with pytest.raises(JobFault, match="is folded into") as caught:
        resized(model, "shuffled", 1, 3, [0, 1, 2])
    assert caught.value.code == "EV211" and "shuffled" in caught.value.what


def test_a_whole_row_of_blocks_can_be_dropped_before_and_behind(new_net, run, agrees):
    net, keep = new_net(), [1]
    x = net.input("x", 1, 16, D)
    model = net.build(y=pixel_shuffle(net, x))
    data = np.arange(16 * D, dtype=np.float32).reshape(1, 16, D)
    whole = run(model, {"x": data})["y"]
    found = analyse(model.graph)
    rows = expand(found.of(x)[1])[0]
    assert rows.size == 2
    resize(found, (rows,), 1, keep)
    agrees(model, found)
    got = run(model, {"x": data[:, 8:]})["y"]
    np.testing.assert_array_equal(got, whole[:, 2:])


def test_space_to_depth_written_out_refuses_and_names_the_node(new_net, resized):
    net = new_net()
    y = net("Reshape", net.input("x", 1, 16, D), net.ints(1, 2, 2, 2, 2, D), name="unfold")
    y = net("Reshape", net("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), net.ints(1, 4, 4 * D))
    with pytest.raises(JobFault, match="is folded into") as caught:
        resized(net.build(y), "x", 1, 4, [0, 1, 2, 3])
    assert caught.value.code == "EV211" and "unfold" in caught.value.what


def test_frames_are_an_axis_of_their_own(new_net, run, feeds_of, value_of, agrees, rng):
    """[B,F,N,D] -> [B*F,N,D] (a frame at a time) -> [B,F*N,D] (all frames together)."""
    b, f, n = 2, 4, 3
    net = new_net()
    x = net.input("video", b, f, n, D)
    single = net("Reshape", x, net.ints(b * f, n, D), name="single")
    single = net("Attention", single, single, single, q_num_heads=1, kv_num_heads=1)
    single = net("MatMul", single, net.weight(rng.normal(size=(D, D))))
    joint = net("Reshape", single, net.ints(b, f * n, D), name="joint")
    model = net.build(
        y=net("Attention", joint, joint, joint, q_num_heads=1, kv_num_heads=1, name="all"),
        z=net("Reshape", joint, net.ints(b, f, n * D)),
    )
    signature = {"video": ("batch", "frame", "token", "channel")}
    found = analyse(model.graph, signature)
    names = {k: found.names(value_of(model, k)) for k in ("single", "joint", "y", "z")}
    assert names["single"] == ("batch*frame", "token", "head_dim")
    assert names["joint"] == names["y"] == ("batch", "frame*token", "head_dim")
    assert names["z"] == ("batch", "frame", "token*head_dim")

    keep = [0, 3]
    feeds = feeds_of(model)
    whole = run(model, feeds)
    resize(found, found.of(x)[1], 2, keep)
    agrees(model, found)
    got = run(model, {"video": feeds["video"][:, keep]})
    np.testing.assert_allclose(got["z"], whole["z"][:, keep], rtol=1e-4, atol=1e-6)
    resize(found, found.of(x)[2], 2, [0, 2])
    resize(found, found.of(x)[0], 1)
    agrees(model, found)
    assert list(model.graph.outputs[0].shape) == [1, 4, D]


def test_attention_over_time_leaves_frames_frames(new_net, value_of):
    """[B*N,F,D]: the op calls its second dimension token, the caller knows better."""
    net = new_net()
    x = net.input("video", 2, 4, 3, D)
    t = net("Reshape", net("Transpose", x, perm=[0, 2, 1, 3]), net.ints(6, 4, D), name="time")
    y = net("Attention", t, t, t, q_num_heads=2, kv_num_heads=2)
    found = analyse(net.build(y).graph, {"video": ("batch", "frame", "token", "channel")})
    assert found.names(y) == ("batch*token", "frame", "head*head_dim")


def test_a_batch_of_images_is_named_and_can_be_resized(new_net, resized, feeds_of, run, rng):
    net = new_net()
    pixels = net.input("pixel_values", 4, 3, 8, 8)
    y = net("Conv", pixels, net.weight(rng.normal(size=(D, 3, 2, 2))), strides=[2, 2])
    y = net("Transpose", net("Reshape", y, net.ints(4, D, 16)), perm=[0, 2, 1])
    y = net("LayerNormalization", y, net.weight(np.ones(D)))
    model = net.build(y=net("Attention", y, y, y, q_num_heads=2, kv_num_heads=2))
    found = analyse(model.graph)
    assert found.names(model.graph.outputs[0]) == ("batch", "token*token", "head*head_dim")
    small, feeds = resized(model, "pixel_values", 0, 1), feeds_of(model)
    expected = run(model, feeds)["y"][2:3]
    got = run(small, {"pixel_values": feeds["pixel_values"][2:3]})["y"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
