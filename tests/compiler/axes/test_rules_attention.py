"""Attention and RotaryEmbedding: both input forms, groups, caches, and what the attributes say."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.rules import attention
from edgevlm.compiler.errors import JobFault


def build(new_net, op: str, form: int = 4):
    net = new_net()
    if op == "Attention":
        q, k, v = qkv(net, form, heads=4, kv_heads=2)
        heads = {"q_num_heads": 4, "kv_num_heads": 2} if form == 3 else {}
        return net.build(net(op, q, k, v, net.input("mask", 5, 7), **heads))
    if op == "RotaryEmbedding":
        x = net.input("x", *((2, 5, 24) if form == 3 else (2, 3, 5, 8)))
        cos, sin = (net.input(name, 2, 5, 4) for name in ("cos", "sin"))
        return net.build(net(op, x, cos, sin, **({"num_heads": 3} if form == 3 else {})))
    raise KeyError(op)


def qkv(net, form: int, heads: int, kv_heads: int, batch: int = 2):
    """Five queries of width 6, seven keys, values of width 3."""
    if form == 3:
        shapes = (5, heads * 6), (7, kv_heads * 6), (7, kv_heads * 3)
    else:
        shapes = (heads, 5, 6), (kv_heads, 7, 6), (kv_heads, 7, 3)
    return [net.input(name, batch, *shape) for name, shape in zip("qkv", shapes, strict=True)]


@pytest.mark.parametrize("form", [3, 4])
@pytest.mark.parametrize("op", sorted(attention.RULES))
def test_terms_are_the_shapes_onnx_runtime_gives(op, form, new_net, agrees):
    model = build(new_net, op, form)
    agrees(model, analyse(model.graph))


def test_what_every_dimension_means(new_net, value_of):
    model = build(new_net, "Attention")
    found = analyse(model.graph)
    names = {v.name: found.names(v) for v in model.graph.inputs}
    assert names == {
        "q": ("batch", "head*group", "token", "head_dim"),
        "k": ("batch", "head", "kv", "head_dim"),
        "v": ("batch", "head", "kv", "head_dim"),
        "mask": ("token", "kv"),
    }
    assert found.names(model.graph.outputs[0]) == ("batch", "head*group", "token", "head_dim")


def test_one_kv_head_for_all_leaves_the_query_heads_heads(new_net):
    net = new_net()
    q, k, v = qkv(net, 4, heads=4, kv_heads=1)
    found = analyse(net.build(net("Attention", q, k, v)).graph)
    assert found.names(q)[1] == "head" and found.names(k)[1] == "1"


@pytest.mark.parametrize("form", [3, 4])
def test_the_present_cache_is_past_and_new(form, new_net, agrees, value_of, resized):
    net = new_net()
    q, k, v = qkv(net, form, heads=2, kv_heads=2)
    past = [net.input(f"past_{n}", 2, 2, 9, w) for n, w in (("k", 6), ("v", 3))]
    heads = {"q_num_heads": 2, "kv_num_heads": 2} if form == 3 else {}
    made = net("Attention", q, k, v, None, *past, outputs=4, **heads)
    model = net.build(*made)
    found = analyse(model.graph)
    agrees(model, found)
    assert found.names(past[0])[2] == found.names(made[1])[2] == "kv"
    small = resized(model, "past_k", 2, 4)
    assert [list(v.shape)[2:] for v in small.graph.outputs[1:]] == [[11, 6], [11, 3], [5, 11]]
    assert resized(model, "past_v", 0, 1).graph.inputs[0].shape[0] == 1


@pytest.mark.parametrize("form", [3, 4])
def test_a_kv_head_takes_its_group_of_query_heads_along(form, new_net, run, feeds_of, agrees):
    net, keep = new_net(), [0, 2]
    q, k, v = qkv(net, form, heads=6, kv_heads=3)
    heads = {"q_num_heads": 6, "kv_num_heads": 3} if form == 3 else {}
    model = net.build(y=net("Attention", q, k, v, **heads))
    feeds = feeds_of(model)
    whole = run(model, feeds)["y"]
    found = analyse(model.graph)
    (head, *_) = found.of(k)[1 if form == 4 else 2]
    resize(found, (head.root.factors or (head,))[:1], 2, keep)
    agrees(model, found)

    def cut(x: np.ndarray, group: int, width: int) -> np.ndarray:
        if form == 4:
            return x.reshape(2, 3, -1)[:, keep].reshape(2, 2 * group, x.shape[2], width)
        return x.reshape(2, x.shape[1], 3, -1)[:, :, keep].reshape(2, x.shape[1], -1)

    less = {"q": cut(feeds["q"], 2, 6), "k": cut(feeds["k"], 1, 6), "v": cut(feeds["v"], 1, 3)}
    np.testing.assert_allclose(run(model, less)["y"], cut(whole, 2, 3), rtol=1e-5)


@pytest.mark.parametrize("form", [3, 4])
def test_the_scale_a_head_was_made_for_stays(form, new_net, run, feeds_of, agrees):
    """Dropping channels in which the keys are zero changes nothing: not even the scale."""
    net, keep = new_net(), [0, 1, 3, 5]
    q, k, v = qkv(net, form, heads=2, kv_heads=2)
    heads = {"q_num_heads": 2, "kv_num_heads": 2} if form == 3 else {}
    model = net.build(y=net("Attention", q, k, v, **heads))
    feeds = feeds_of(model)
    channels = feeds["k"].reshape(-1, 6)
    channels[:, [2, 4]] = 0
    whole = run(model, feeds)["y"]
    found = analyse(model.graph)
    resize(found, (expand(found.of(q)[-1])[-1],), 4, keep)
    agrees(model, found)
    less = {"v": feeds["v"]}
    for name in "qk":
        lead = feeds[name].shape[:-1]
        less[name] = feeds[name].reshape(-1, 6)[:, keep].reshape(*lead, -1)
    np.testing.assert_allclose(run(model, less)["y"], whole, rtol=1e-5)


def test_the_width_of_values_is_not_the_width_of_keys(new_net, resized, run, feeds_of):
    model, keep = build(new_net, "Attention"), [0, 2]
    small, feeds = resized(model, "v", 3, 2, keep), feeds_of(model)
    feeds["mask"] = feeds["mask"] * 0
    (whole,) = run(model, feeds).values()
    (part,) = run(small, feeds | {"v": feeds["v"][..., keep]}).values()
    np.testing.assert_allclose(part, whole[..., keep], rtol=1e-5)
    assert list(small.graph.inputs[0].shape) == [2, 4, 5, 6]


@pytest.mark.parametrize("mask", [(5, 7), (1, 1, 5, 7), (2, 1, 5, 7), (1, 4, 5, 7), (2, 4, 5, 7)])
def test_masks_broadcast(mask, new_net, agrees, refused):
    net = new_net()
    q, k, v = qkv(net, 4, heads=4, kv_heads=4)
    model = net.build(net("Attention", q, k, v, net.input("mask", *mask)))
    agrees(model, analyse(model.graph))
    assert refused(model) == set()


def test_the_rows_that_count_belong_to_the_batch(new_net, resized, agrees):
    """Opset 24: nonpad_kv_seqlen [batch]."""
    net = new_net(24)
    q, k, v = qkv(net, 4, heads=2, kv_heads=2)
    filled = net.input("filled", 2, dtype="INT64")
    model = net.build(net("Attention", q, k, v, None, None, None, filled))
    agrees(model, analyse(model.graph))
    assert list(resized(model, "q", 0, 1).graph.inputs[3].shape) == [1]


@pytest.mark.parametrize("counts", [{}, {"q_num_heads": 5, "kv_num_heads": 2}])
def test_heads_that_do_not_divide_are_refused_with_the_node(counts, new_net):
    net = new_net()
    y = net("Attention", *qkv(net, 3, heads=4, kv_heads=2), name="odd", **counts)
    y.shape = None
    model = net.build(y)
    with pytest.raises(JobFault, match=r"do not split into \d heads \(q_num_heads\)") as caught:
        analyse(model.graph)
    assert caught.value.code == "EV211" and "odd" in caught.value.what


def test_groups_that_do_not_divide_are_refused_with_the_node(new_net):
    net = new_net()
    y = net("Attention", *qkv(net, 4, heads=5, kv_heads=2), name="odd")
    with pytest.raises(JobFault, match="5 query heads do not share 2 kv heads") as caught:
        analyse(net.build(y).graph)
    assert caught.value.code == "EV211" and "odd" in caught.value.what


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [0, 4])
@pytest.mark.parametrize("form", [3, 4])
@pytest.mark.parametrize("table", [False, True])
def test_a_rotated_pair_leaves_as_a_pair(
    interleaved, rotated, form, table, new_net, run, rng, agrees
):
    """Dropping pair 0 of cos and sin drops both its channels from every head."""
    net, half = new_net(), (rotated or 8) // 2
    x = net.input("x", *((2, 5, 24) if form == 3 else (2, 3, 5, 8)))
    lead = (9,) if table else (2, 5)
    cos, sin = (rng.uniform(-1, 1, (*lead, half)).astype(np.float32) for _ in range(2))
    operands = [x, net.weight(cos, "cos"), net.weight(sin, "sin")]
    if table:
        operands.append(net.input("ids", 2, 5, dtype="INT64"))
    given = {"num_heads": 3} if form == 3 else {}
    given |= {"rotary_embedding_dim": rotated} if rotated else {}
    y = net("RotaryEmbedding", *operands, interleaved=interleaved, **given)
    model = net.build(y=y)
    ids = {"ids": rng.integers(0, 9, (2, 5))} if table else {}
    data = rng.normal(size=x.shape).astype(np.float32)
    whole = run(model, {"x": data, **ids})["y"]

    found = analyse(model.graph)
    keep = list(range(1, half))
    resize(found, found.weights[(y.producer(), 1)][-1], half - 1, keep)
    agrees(model, found, {"x": np.zeros(list(x.shape), np.float32), **ids})
    pairs = (
        [2 * i + j for i in keep for j in (0, 1)]
        if interleaved
        else keep + [half + i for i in keep]
    )
    stay = pairs + list(range(2 * half, 8))

    def cut(a: np.ndarray) -> np.ndarray:
        return a.reshape(-1, 8)[:, stay].reshape(*list(x.shape)[:-1], -1)

    np.testing.assert_allclose(run(model, {"x": cut(data), **ids})["y"], cut(whole), rtol=1e-5)


def test_rotary_heads_in_the_flat_form_can_be_removed(new_net, run, rng, agrees):
    net, keep = new_net(), [0, 2]
    x = net.input("x", 2, 5, 24)
    cos, sin = (net.weight(rng.uniform(-1, 1, (2, 5, 4))) for _ in range(2))
    y = net("RotaryEmbedding", x, cos, sin, num_heads=3)
    model = net.build(y=y)
    data = rng.normal(size=(2, 5, 24)).astype(np.float32)
    whole = run(model, {"x": data})["y"]
    found = analyse(model.graph)
    resize(found, (expand(found.of(x)[2])[0],), 2, keep)
    agrees(model, found)
    assert y.producer().attributes["num_heads"].value == 2
    cut = lambda a: a.reshape(2, 5, 3, 8)[:, :, keep].reshape(2, 5, 16)  # noqa: E731
    np.testing.assert_allclose(run(model, {"x": cut(data)})["y"], cut(whole), rtol=1e-5)
