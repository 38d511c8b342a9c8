"""Where channels can be divided for nothing: the function stays, and refusals are refusals."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.narrow_cache import cache_scales, float_sides
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import Reference, observe
from edgevlm.models.answer import inputs_of
from edgevlm.passes.quantize.places import agreed, divide, find_places
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_kv import QuantizeKv
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.smooth_activations import SmoothActivations

RNG = np.random.default_rng(0)
ALL = ("norm", "gate", "linear", "attention")
SHAPES = {"to_q": (1, 5, 4, 4), "to_kv": (1, 5, 2, 4), "flat": (1, 5, 16), "two": (5, 8),
          "one": (1, 5, 8), "back": (-1,), "far": (-100,), "channels": (2,),
          "four": (4,), "eight": (8,), "grouped": (1, 5, 2, 4)}  # fmt: skip
ARRAYS = {
    "q": RNG.normal(size=(16, 16)), "k": RNG.normal(size=(16, 8)), "v": RNG.normal(size=(16, 8)),
    "c": RNG.normal(size=8), "o": RNG.normal(size=(16, 16)), "u": RNG.normal(size=(16, 8)),
    "d": RNG.normal(size=(8, 16)), "dt": RNG.normal(size=(16, 8)), "w": RNG.normal(size=(8, 8)),
    "g": np.ones(4), "rope": RNG.normal(size=(1, 5, 2)), "e": RNG.normal(size=16),
    "half": RNG.normal(size=(4, 16)),
}  # fmt: skip
#: four query heads, two kv heads
HEADS = """q1 = MatMul(x, q) q3 = Reshape(q1, to_q) q4 = Transpose<perm = [0, 2, 1, 3]>(q3)
    k1 = MatMul(x, k) k3 = Reshape(k1, to_kv) k4 = Transpose<perm = [0, 2, 1, 3]>(k3)
    v1 = MatMul(x, v) v2 = Add(v1, c) v3 = Reshape(v2, to_kv)
    v4 = Transpose<perm = [0, 2, 1, 3]>(v3) """
OUT = """ a3 = Transpose<perm = [0, 2, 1, 3]>(a4) a = Reshape(a3, flat) y = MatMul(a, o)"""
ATTENTION = HEADS + "a4 = Attention(q4, k4, v4)" + OUT
FLAT = """q1 = MatMul(x, q) k1 = MatMul(x, k) v1 = MatMul(x, v) v2 = Add(c, v1)
    a = Attention<q_num_heads = 4, kv_num_heads = 2>(q1, k1, v2) y = MatMul(a, o)"""
RELU = "h = MatMul(x, u) b = Add(h, c) r = Relu(b) y = MatMul(r, d)"
GEMM = """x2 = Squeeze(x) h = Gemm(x2, u, c) r = Relu(h) t = Identity(r)
    y2 = Gemm<transB = 1>(t, dt, e) y = Unsqueeze(y2, zero)"""
OUTPUTS = "float[1,5,16] y, float[1,2,5,4] value_0"
MOVED = """h = MatMul(x, u) m = Reshape(h, to_kv) n = Transpose<perm = [0, 2, 3, 1]>(m)
    b = Transpose<perm = [0, 3, 1, 2]>(n) r = Reshape(b, one) y = MatMul(r, d)"""

BACKWARDS = "h = MatMul(x, u) r = Slice(h, back, far, channels, back) y = MatMul(r, d)"
#: gate and value of one product, by Slice; by Gather, where they are rows of a reshape
HALVES = """h = MatMul(x, u) n = Slice(h, zero, four, channels)
    m = Slice(h, four, eight, channels) s = Sigmoid(n) r = Mul(s, m) y = MatMul(r, half)"""
GATHERED = """h = MatMul(x, u) f = Reshape(h, grouped) n = Gather<axis = 2>(f, i0)
    m = Gather<axis = 2>(f, i1) s = Sigmoid(n) r = Mul(s, m) y = MatMul(r, half)"""
#: what is read twice is read twice, whether by a slice or not
OVERLAP = """h = MatMul(x, u) n = Slice(h, zero, eight, channels)
    m = Slice(h, four, eight, channels) s = Sigmoid(n) z = Reshape(s, back)
    r = Relu(m) y = MatMul(r, half)"""


@pytest.fixture(scope="module")
def part(graph):
    def make(body, outputs="float[1,5,16] y", shapes=SHAPES):
        text = f"(float[1,5,16] x) => ({outputs}) {{ {body} }}"
        arrays = {n: np.asarray(a, np.float32) for n, a in ARRAYS.items()}
        arrays |= {n: np.array(s) for n, s in shapes.items()} | {"zero": np.array([0])}
        arrays |= {"i0": np.array(0), "i1": np.array(1)}
        return graph(text, **{n: a for n, a in arrays.items() if re.search(rf"\b{n}\b", text)})

    return make


def divided(model, seed):
    """With a random factor at every place; the number of places."""
    clone = model.clone()
    build, found = GraphBuilder(clone, "t"), find_places(clone.graph, ALL)
    rng = np.random.default_rng(seed)
    for place in found:
        factors = rng.uniform(0.1, 10, int(place.columns.max()) + 1)
        divide(build, place, factors[place.columns])
    build.finish()
    return clone, found


@pytest.mark.parametrize(
    ("body", "kind"),
    [(ATTENTION, "attention"), (FLAT, "attention"), (RELU, "linear"), (GEMM, "linear"),
     (MOVED, "linear"), (BACKWARDS, "linear"), (HALVES, "linear"), (GATHERED, "linear")],
)  # fmt: skip
@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_any_factors_leave_the_function_alone(part, ort, body, kind, seed):
    model = part(body)
    made, found = divided(model, seed=seed)
    assert [place.kind for place in found] == [kind]
    x = np.random.default_rng(seed).normal(size=(1, 5, 16)).astype(np.float32)
    want, got = (ort(m, x=x)["y"] for m in (model, made))
    assert measure(want, got, "y").sqnr_db > 100
    assert len(made.graph) == len(model.graph)


def test_query_heads_share_what_their_kv_head_has(part):
    columns = find_places(part(ATTENTION).graph, ALL)[0].columns.reshape(4, 4)
    assert columns.tolist() == [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2


@pytest.mark.parametrize(
    "body",
    [
        HEADS + "n = RMSNormalization<axis = -1>(v4, g) a4 = Attention(q4, k4, n)" + OUT,
        HEADS + "n = RotaryEmbedding(v4, rope, rope) a4 = Attention(q4, k4, n)" + OUT,
        HEADS + "s = Tanh(v4) a4 = Attention(q4, k4, v4)" + OUT + " z = Reshape(s, back)",
        "h = MatMul(x, u) r = Gelu(h) y = MatMul(r, d)",
        "h = MatMul(x, u) r = Relu(h) z = Reshape(h, back) y = MatMul(r, d)",
        "h = MatMul(x, u) i = MatMul(x, k) r = Add(h, i) y = MatMul(r, d)",
        # rows and channels change places: a channel is no column any more
        "h = MatMul(x, u) n = Transpose<perm = [0, 2, 1]>(h) r = Reshape(n, one) y = MatMul(r, d)",
        OVERLAP,
    ],
    ids=["normed", "rotated", "read twice", "gelu", "read before", "sum", "mixed", "overlap"],
)
def test_what_cannot_be_scaled_is_no_place(part, body):
    outputs = "float[1,5,16] y" + (", float[40] z" if "z =" in body else "")
    assert not find_places(part(body, outputs).graph, ALL)


def test_a_value_that_goes_out_is_no_place_unless_it_is_a_cache(part):
    for name, places in (("other", 0), ("value_0", 1)):
        body = ATTENTION.replace("v4", name)
        model = part(body, f"float[1,5,16] y, float[1,2,5,4] {name}")
        assert len(find_places(model.graph, ALL)) == places


def test_a_cache_is_scaled_in_both_parts_or_in_none(micro_model):
    whole = {r: find_places(p.graph, ALL) for r, p in micro_model.parts.items()}
    kept, notes = agreed(whole)
    assert [p.kind for p in kept["decode"]].count("attention") == 1 and not notes
    assert set(kept["decode"][0].ports) | set(kept["decode"][1].ports) == {
        "value_0",
        "past_value_0",
    }
    alone, notes = agreed(whole | {"prefill": []})
    assert not any(p.ports for p in alone["decode"]) and "would not agree" in notes[0].why
    clone = micro_model.parts["decode"].clone()  # another output projection: another factor
    node = next(n for n in clone.graph if n.inputs and any(
        v is not None and v.name == "wo_0" for v in n.inputs))  # fmt: skip
    array = node.inputs[1].const_value.numpy() * 2
    node.inputs[1].const_value = ir.tensor(array, name="wo_0")
    other, notes = agreed(whole | {"decode": find_places(clone.graph, ALL)})
    assert len(notes) == 2 and not any(p.ports for places in other.values() for p in places)


@pytest.mark.parametrize("options", [{"equalise": True}, {"equalise": True, "how": "repq"}])
def test_a_whole_model_is_the_same_with_other_numbers_in_its_caches(make_micro, options, ort):
    model = make_micro(layers=2, heads=4, kv_heads=2, width=16, tower=2)
    probes = inputs_of(model)
    made, record, seen = run_passes(model, [SmoothActivations(**options)], probes)
    check = record[0].check
    assert check.agree == len(probes) and min(d.sqnr_db for d in check.drift.values()) > 80
    feeds = observe(model, probes).feeds[0]["prefill"]
    was, now = (ort(m.parts["prefill"], **feeds)["value_1"] for m in (model, made))
    assert measure(was, now, "v").sqnr_db < 40  # they are other numbers, and answers are the same
    # and again on top of it: units multiply; int8 caches are compared in the source's unit
    steps = [SmoothActivations(equalise=True, alpha=0.7), QuantizeKv()]
    last, record, _ = run_passes(made, steps, probes, seen=seen, min_sqnr=20)
    assert record[0].check.drift["decode"].sqnr_db > 80
    sides = float_sides(model, last, ReferenceParts(last.parts), cache_scales(last))
    first = observe(model, probes)
    drift = compare_parts(*sides, first, ["prefill", "decode"])  # from the source to the end
    assert min(d.sqnr_db for d in drift.values()) > 20


def test_a_cache_that_comes_in_past_the_way_is_not_scaled(part, graph):
    """What goes out would be in other units than what comes in."""
    prefill = part(ATTENTION.replace("v4", "value_0"), OUTPUTS)
    kept, notes = agreed({r: find_places(prefill.graph, ALL) for r in ("prefill", "decode")})
    assert len(kept["decode"]) == 1 and not notes
    other = prefill.clone()
    past = ir.Value(
        name="past_value_0", shape=ir.Shape([1, 2, 9, 4]), type=prefill.graph.inputs[0].type
    )
    other.graph.inputs.append(past)
    parts = {"prefill": prefill, "decode": other}
    kept, notes = agreed({r: find_places(p.graph, ALL) for r, p in parts.items()})
    assert not any(kept.values()) and len(notes) == 2


def sqnr(model, solo, ort, feeds, **options):
    """dB of w8a8 behind a smoothing with these options."""
    steps = [SmoothActivations(**options), QuantizeWeights(min_elements=1), QuantizeActivations()]
    wrapped = solo(model)
    for step in steps:
        step.calibration = Reference([{"vision": f} for f in feeds], [], [])
        wrapped = step(wrapped).model
    return measure(ort(model, **feeds[0])["y"], ort(wrapped.parts["vision"], **feeds[0])["y"], "y")


@pytest.mark.parametrize("body", [ATTENTION, RELU], ids=["V -> O", "linear -> ReLU -> linear"])
def test_what_it_buys_where_channels_are_uneven(part, solo, ort, body, monkeypatch):
    """w8a8 with V's, or the first layer's, columns a hundred times apart."""
    uneven = np.logspace(0, 2, 8)
    scaled = {n: ARRAYS[n] * uneven for n in ("v", "u", "c")}
    scaled |= {"d": ARRAYS["d"] / uneven[:, None]}
    heads = np.repeat(uneven.reshape(2, 4), 2, axis=0).reshape(16, 1)
    for name, array in (scaled | {"o": ARRAYS["o"] / heads}).items():
        monkeypatch.setitem(ARRAYS, name, array)
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.normal(size=(1, 5, 16)).astype(np.float32)} for _ in range(4)]
    plain, even = (sqnr(part(body), solo, ort, feeds, equalise=e).sqnr_db for e in (False, True))
    assert even > plain + 10
