"""Narrower MLPs: what is cut, what the rest makes up for, and what is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.cost import count
from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.pass_manager import apply_unchecked, run_passes
from edgevlm.passes import make_passes
from edgevlm.passes.derive.mlps import find_mlps
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.derive.narrow_units import TooWide, Units, narrow_units
from edgevlm.passes.derive.sums import see, together
from edgevlm.passes.pipelines import Flags, compose


@pytest.fixture(scope="module")
def clean(tiny_model):
    return apply_unchecked(tiny_model, make_passes(compose("host-cpu", "ort", Flags())))


def features(model, probe, ort):
    return ort(model.parts["vision"], pixel_values=probe.pixel_values)["image_features"]


def gelus(model):
    return [int(n.outputs[0].shape[-1]) for n in model.parts["vision"].graph if n.op_type == "Gelu"]


def narrow(model, probes, **options):
    """Heads stay whole; keep: share of the hidden units."""
    if "keep" in options:
        options["macs"] = macs_for(model, options.pop("keep"))
    return apply_unchecked(model, [NarrowEncoder(energy=1.0, **options)], probes)


def macs_for(model, keep):
    """Multiplications with a share of all hidden units."""
    part = model.parts["vision"]
    mlps = find_mlps(analyse(part.graph, model.contract.signature("vision")))
    return count(part).macs - round((1 - keep) * sum(m.width * m.macs_a_unit for m in mlps))


def test_with_all_units_nothing_changes(clean, tiny_probes):
    assert narrow(clean, tiny_probes, keep=1) is clean


@pytest.mark.parametrize(("keep", "multiple"), [(0.5, 8), (0.3, 8), (0.25, 16), (0.7, 1)])
def test_all_blocks_have_one_level(clean, tiny_probes, ort, keep, multiple):
    made = narrow(clean, tiny_probes, keep=keep, multiple=multiple)
    (width,) = set(gelus(made))
    assert width % multiple == 0
    assert keep * gelus(clean)[0] - multiple < width <= keep * gelus(clean)[0]
    got = features(made, tiny_probes[0], ort)
    assert got.shape == features(clean, tiny_probes[0], ort).shape and np.isfinite(got).all()


@pytest.mark.parametrize("share", [0.9, 0.7])
def test_a_budget_is_kept_and_used(clean, tiny_probes, share):
    whole = count(clean.parts["vision"]).macs
    made = narrow(clean, tiny_probes, macs=int(share * whole))
    got = count(made.parts["vision"])
    assert share - 0.05 < got.macs / whole <= share
    assert got.weight_bytes < count(clean.parts["vision"]).weight_bytes
    assert {n.op_type for n in made.parts["vision"].graph} == {
        n.op_type for n in clean.parts["vision"].graph
    }, "no masks"


def test_a_budget_that_hidden_units_do_not_reach(clean, tiny_probes):
    with pytest.raises(UsageFault, match="in multiples of 8 leave 0"):
        narrow(clean, tiny_probes, macs=1000)


def test_the_fit_and_the_order_each_bring_something(clean, tiny_probes, ort):
    """On pictures that nothing was fitted to."""
    fit, test = tiny_probes[::2], tiny_probes[1::2]
    wanted = np.concatenate([features(clean, p, ort) for p in test])
    dbs = {}
    for order, refit in (("sum", False), ("sum", True), ("loss", True)):
        made = narrow(clean, fit, keep=0.4, order=order, refit=refit)
        got = np.concatenate([features(made, p, ort) for p in test])
        dbs[order, refit] = measure(wanted, got, "").sqnr_db
    assert dbs["sum", False] + 3 < dbs["sum", True] and dbs["sum", True] + 1 < dbs["loss", True]


def test_pictures_here_and_there_add_up_to_all_of_them(clean, tiny_probes):
    part, signature = clean.parts["vision"], clean.contract.signature("vision")
    feeds = [{"pixel_values": p.pixel_values} for p in tiny_probes]
    some, others, whole = (see(part, signature, f) for f in (feeds[:5], feeds[5:], feeds))
    both = together(some, others)
    assert both.keys() == whole.keys() and len(whole) >= 2 * len(gelus(clean))
    for name, total in both.items():
        assert np.allclose(total.h, whole[name].h) and total.tokens == whole[name].tokens


def test_heads_and_units_in_a_checked_recipe(tiny_model, tiny_probes):
    passes = make_passes(compose("host-cpu", "ort", Flags()))
    made, record, _ = run_passes(tiny_model, [*passes, NarrowEncoder(alpha=0.3)], tiny_probes)
    assert record[-1].changed and "of the hidden units" in record[-1].notes[-1].why
    assert record[-1].check.logits.sqnr_db > 15
    assert count(made.parts["vision"]).macs <= 0.7 * count(tiny_model.parts["vision"]).macs


RNG = np.random.default_rng(0)
BASIS = RNG.normal(size=(4, 6)).astype(np.float32)


def pictures(n):
    """[1,3,1,6]: three rows each, all on a plane of four dimensions."""
    rows = RNG.normal(size=(n, 1, 3, 1, 4)) @ BASIS
    return [ProbeInput(picture.astype(np.float32)) for picture in rows]


HEAD = "(float[1,3,1,6] pixel_values) => (float[1,3,5] logits) { x = Reshape(pixel_values, rows) "
FORMS = {
    "gated": "g = MatMul(x, w1) s = Sigmoid(g) a = Mul(g, s) u = MatMul(x, w2) h = Mul(a, u) "
    "logits = MatMul(h, down) }",
    "bias behind": "u = MatMul(x, w1) h = Relu(u) y = MatMul(h, down) logits = Add(y, b) }",
    "bias in front": "u = MatMul(x, w1) v = Add(u, b1) h = Relu(v) y = MatMul(h, down) "
    "logits = Add(b, y) }",
    "gemm": "f = Reshape(x, two) u = Gemm<transB = 1>(f, w1t, b1) h = Relu(u) "
    "y = Gemm<transB = 1>(h, downt, b) logits = Reshape(y, three) }",
}
ARRAYS = {
    "w1": RNG.normal(size=(6, 16)), "w2": RNG.normal(size=(6, 16)), "b1": RNG.normal(size=16),
    "down": RNG.normal(size=(16, 5)), "b": RNG.normal(size=5), "rows": np.array([1, 3, 6]),
    "two": np.array([3, 6]), "three": np.array([1, 3, 5]),
}  # fmt: skip
ARRAYS |= {"w1t": ARRAYS["w1"].T, "downt": ARRAYS["down"].T}


def model_of(body, graph, solo, **more):
    arrays = {
        n: np.ascontiguousarray(a if a.dtype == np.int64 else a.astype(np.float32))
        for n, a in (ARRAYS | more).items()
        if f", {n})" in body or f"({n}," in body or f", {n}," in body or n in ("rows",)
    }
    return solo(graph(HEAD + body, **arrays))


def halved(model, probes):
    """A graph of one part, in place of what the pass would give."""
    part = model.parts["vision"].clone()
    feeds = [{"pixel_values": p.pixel_values} for p in probes]
    macs = macs_for(model, 0.5)
    signature = model.contract.signature("vision")
    narrow_units(part, signature, see(part, signature, feeds), macs, Units(multiple=1))
    return part


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_mlps(graph, solo, ort, form):
    model, probes = model_of(FORMS[form], graph, solo), pictures(60)
    part = halved(model, probes)
    assert sum(v.const_value.size for v in part.graph.initializers.values()) < sum(
        v.const_value.size for v in model.parts["vision"].graph.initializers.values()
    )
    (down,) = [n for n in part.graph if n.inputs[0] is not None and n.inputs[0].name == "h"]
    assert 8 in down.inputs[1].shape
    wanted, got = (
        np.concatenate([ort(p, pixel_values=x.pixel_values)["logits"] for x in pictures(30)])
        for p in (model.parts["vision"], part)
    )
    assert got.shape == wanted.shape and np.isfinite(got).all()


@pytest.mark.parametrize("form", ["bias behind", "gemm"])
def test_twin_units_are_given_up_for_nothing(graph, solo, ort, form):
    """Eight of sixteen units are copies of the others: half of them does the same."""
    twins = {"w1": np.tile(ARRAYS["w1"][:, :8], 2), "b1": np.tile(ARRAYS["b1"][:8], 2)}
    twins["w1t"] = twins["w1"].T
    model, probes = model_of(FORMS[form], graph, solo, **twins), pictures(60)
    part = halved(model, probes)
    for x in probes[:9]:
        wanted, got = (ort(p, pixel_values=x.pixel_values)["logits"]
                       for p in (model.parts["vision"], part))  # fmt: skip
        assert np.allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def test_units_that_a_norm_sees_together_stay(graph, solo):
    body = (
        "u = MatMul(x, w1) n = LayerNormalization(u, gain) h = Relu(n) logits = MatMul(h, down) }"
    )
    model = model_of(body, graph, solo, gain=np.ones(16))
    before = count(model.parts["vision"])
    with pytest.raises(TooWide):
        narrow_units(model.parts["vision"], {}, {}, before.macs - 1, Units())
    assert count(model.parts["vision"]) == before
