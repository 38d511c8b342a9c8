"""Heads turned to their own axes: the same function, channels in the order of what they carry."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.passes import make_passes
from edgevlm.passes.derive.turn_heads import turn_heads
from edgevlm.passes.pipelines import Flags, compose

RNG = np.random.default_rng(0)
WIDTH, ROWS = 24, 5


def attention(heads, kv_heads, width, bias=True, between=""):
    """x [1,5,24] -> q, k, v -> Attention -> projection."""
    lines = []
    for name in "qkv":
        made = f"p{name} = MatMul(x, w{name}) "
        made += f"b{name}_ = Add(p{name}, b{name})" if bias else f"b{name}_ = Identity(p{name})"
        lines.append(
            f"{made} r{name} = Reshape(b{name}_, s{name}) "
            f"t{name} = Transpose<perm = [0, 2, 1, 3]>(r{name})"
        )
    text = f"""(float[1,{ROWS},{WIDTH}] x) => (float[1,{ROWS},{WIDTH}] y) {{
        {" ".join(lines)} {between or "u = Identity(tq)"}
        a = Attention(u, tk, tv) at = Transpose<perm = [0, 2, 1, 3]>(a) f = Reshape(at, flat)
        y = MatMul(f, wo) }}"""
    sizes = {"q": heads, "k": kv_heads, "v": kv_heads}
    arrays = {f"w{n}": RNG.normal(size=(WIDTH, c * width)) for n, c in sizes.items()}
    arrays |= {f"b{n}": RNG.normal(size=c * width) for n, c in sizes.items()} if bias else {}
    arrays["wo"] = RNG.normal(size=(heads * width, WIDTH))
    shapes = {f"s{n}": np.array([1, ROWS, c, width]) for n, c in sizes.items()}
    floats = {n: (0.3 * a).astype(np.float32) for n, a in arrays.items()}
    return text, {**floats, **shapes, "flat": np.array([1, ROWS, heads * width])}


def constant(part, made):
    """The second input of the node that makes a value."""
    node = next(n for n in part.graph if n.outputs[0].name == made)
    return node.inputs[1].const_value.numpy()


def the_attention(part):
    return next(n for n in part.graph if n.op_type == "Attention")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width"), [(3, 3, 8), (4, 2, 6), (6, 1, 4), (1, 1, 40)]
)
def test_the_function_is_the_same(graph, ort, heads, kv_heads, width, bias):
    text, arrays = attention(heads, kv_heads, width, bias)
    part = graph(text, **arrays)
    x = RNG.normal(size=(1, ROWS, WIDTH)).astype(np.float32)
    wanted = ort(part, x=x)["y"]
    turned = part.clone()
    (done,) = turn_heads(turned)
    assert len(done.scores) == len(done.values) == kv_heads
    assert the_attention(turned).attributes.get_float("scale") == pytest.approx(width**-0.5)
    assert np.allclose(ort(turned, x=x)["y"], wanted, atol=2e-5)
    assert not np.allclose(constant(turned, "pq"), arrays["wq"])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(3, 3, 8), (4, 2, 6), (1, 1, 40)])
def test_whatever_inputs_look_like_the_function_is_the_same(
    graph, ort, heads, kv_heads, width, bias
):
    """Moments say in which order, not what; here two directions were never seen."""
    text, arrays = attention(heads, kv_heads, width, bias)
    part = graph(text, **arrays)
    seen = RNG.normal(size=(400, WIDTH)) * np.geomspace(1, 30, WIDTH) + 3
    seen[:, :2] = 0
    x = seen[:ROWS].astype(np.float32)[None] / 30
    rows = np.concatenate([seen / 30, np.ones((400, 1))], axis=1)
    wanted = ort(part, x=x)["y"]
    turn_heads(part, {str(part.graph.inputs[0].name): rows.T @ rows})
    assert np.allclose(ort(part, x=x)["y"], wanted, atol=2e-3)
    some = RNG.normal(size=(1, ROWS, WIDTH)).astype(np.float32)
    same = ort(graph(text, **arrays), x=some)["y"]
    assert np.allclose(ort(part, x=some)["y"], same, atol=2e-3)


def test_the_first_channels_carry_the_most(graph, ort):
    """The last half of every head's channels made zero: as good as the factors say."""
    text, arrays = attention(3, 3, 8)
    part = graph(text, **arrays)
    (done,) = turn_heads(part)
    before = [energy[3] for energy in done.values]
    wv, bv, wo = (constant(part, name) for name in ("pv", "bv_", "y"))
    for head, energy in enumerate(before):
        here = slice(8 * head, 8 * head + 8)
        rows = np.concatenate([wv[:, here], bv[None, here]]).T
        whole = rows.T @ wo[here]
        lost = ((whole - rows[:4].T @ wo[here][:4]) ** 2).sum()
        assert 1 - lost / (whole**2).sum() == pytest.approx(energy, abs=1e-5)
        assert energy > 0.6


@pytest.mark.parametrize(
    ("between", "why"),
    [
        ("u = RMSNormalization<axis = -1>(tq, gain)", "rotation or a norm"),
        ("u = Relu(tq)", "Relu lies between queries"),
    ],
)
def test_what_a_turn_does_not_pass_through(graph, ort, between, why):
    """Scores stay; values are turned all the same."""
    text, arrays = attention(3, 3, 8, between=between)
    gain = {"gain": np.ones(8, np.float32)} if "gain" in between else {}
    part = graph(text, **arrays, **gain)
    x = RNG.normal(size=(1, ROWS, WIDTH)).astype(np.float32)
    wanted = ort(part, x=x)["y"]
    (done,) = turn_heads(part)
    assert why in done.scores and len(done.values) == 3
    assert np.array_equal(constant(part, "pq"), arrays["wq"])
    assert np.allclose(ort(part, x=x)["y"], wanted, atol=2e-5)


def test_a_real_encoder(tiny_model, tiny_probes, ort):
    model = tiny_model
    for step in make_passes(compose("host-cpu", "ort", Flags())):
        if step.name in ("fold-constants", "fuse-layer-norm", "fuse-gelu", "fuse-attention"):
            model = step(model).model
    part, feed = model.parts["vision"].clone(), {"pixel_values": tiny_probes[0].pixel_values}
    wanted = ort(part, **feed)["image_features"]
    done = turn_heads(part)
    assert done and all(not isinstance(t.scores, str) for t in done)
    assert all(not isinstance(t.values, str) for t in done)
    found = ort(part, **feed)["image_features"]
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_what_others_read_of_a_shared_bias_stays(graph, ort):
    """Equal biases are one constant once duplicates are merged."""
    text, arrays = attention(3, 3, 8)
    arrays["bk"] = np.zeros_like(arrays["bk"])
    part = graph(
        text.replace("Add(pk, bk)", "Add(pk, zero)").replace("Add(pv, bv)", "Add(pv, zero)"),
        **{n: a for n, a in arrays.items() if n not in ("bk", "bv")},
        zero=arrays["bk"],
    )
    nodes = {n.outputs[0].name: n for n in part.graph}
    nodes["bk_"].replace_input_with(1, part.graph.initializers["zero"])
    moments = RNG.normal(size=(60, WIDTH + 1)) + 2
    moments[:, -1] = 1
    x = RNG.normal(size=(1, ROWS, WIDTH)).astype(np.float32)
    wanted = ort(part, x=x)["y"]
    turn_heads(part, {str(part.graph.inputs[0].name): moments.T @ moments})
    assert np.allclose(ort(part, x=x)["y"], wanted, atol=2e-4)
