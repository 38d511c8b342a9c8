"""Narrower heads: what is kept, what is cut, and what is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.cost import count
from edgevlm.compiler.drift import measure
from edgevlm.compiler.pass_manager import apply_unchecked, run_passes
from edgevlm.compiler.reference import shown
from edgevlm.passes import make_passes
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.pipelines import Flags, compose


@pytest.fixture(scope="module")
def clean(tiny_model):
    return apply_unchecked(tiny_model, make_passes(compose("host-cpu", "ort", Flags())))


def attentions(model):
    return [n for n in model.parts["vision"].graph if n.op_type == "Attention"]


def features(model, probe, ort):
    return ort(model.parts["vision"], pixel_values=probe.pixel_values)["image_features"]


def narrowed(model, probes, **options):
    return apply_unchecked(model, [NarrowEncoder(**{"alpha": 0, "multiple": 1} | options)], probes)


def test_with_all_of_the_energy_nothing_changes(clean, tiny_probes):
    assert narrowed(clean, tiny_probes, energy=1.0, by="weights") is clean


@pytest.mark.parametrize(("energy", "multiple"), [(0.99, 8), (0.95, 8), (0.9, 4), (0.5, 8)])
def test_fewer_channels_and_multiplications(clean, tiny_probes, ort, energy, multiple):
    made = narrowed(clean, tiny_probes, energy=energy, multiple=multiple, by="weights")
    for node in attentions(made):
        q, k, v = (int(value.shape[3]) for value in node.inputs[:3])
        assert q == k and q % multiple == v % multiple == 0 < min(q, v)
        assert node.attributes.get_float("scale") == pytest.approx(
            int(attentions(clean)[0].inputs[0].shape[3]) ** -0.5
        )
    before, after = (count(m.parts["vision"]) for m in (clean, made))
    assert after.macs < before.macs and after.weight_bytes < before.weight_bytes
    assert features(made, tiny_probes[0], ort).shape == features(clean, tiny_probes[0], ort).shape


@pytest.mark.parametrize("by", ["inputs", "weights"])
def test_the_more_energy_the_closer(clean, tiny_probes, ort, by):
    wanted = features(clean, tiny_probes[0], ort)
    found = [
        features(narrowed(clean, tiny_probes[4:], energy=e, by=by), tiny_probes[0], ort)
        for e in (0.7, 0.9, 0.99, 0.9999)
    ]
    dbs = [measure(wanted, f, "").sqnr_db for f in found]
    assert dbs == sorted(dbs) and dbs[-1] > 25


def test_inputs_tell_better_than_weights_which_channels_matter(clean, tiny_probes, ort):
    """On pictures that nothing was fitted to, with no more channels."""
    wanted, found = features(clean, tiny_probes[0], ort), {}
    for by, energy in (("weights", 0.9), ("inputs", 0.998)):
        made = narrowed(clean, tiny_probes[4:], energy=energy, by=by)
        macs = count(made.parts["vision"]).macs
        found[by] = macs, measure(wanted, features(made, tiny_probes[0], ort), "").sqnr_db
    assert found["inputs"][0] <= found["weights"][0] and found["inputs"][1] > found["weights"][1]


def test_in_a_whole_recipe_answers_stay(tiny_model, tiny_probes):
    steps = list(compose("host-cpu", "ort", Flags(quant="w8"), tiny_model).steps)
    recipe = compose("host-cpu", "ort", Flags(quant="w8"), tiny_model)
    passes = make_passes(recipe)
    at = next(i for i, s in enumerate(steps) if s.name == "quantize-weights")
    passes.insert(at, NarrowEncoder(alpha=0, energy=0.99))
    _, record, seen = run_passes(tiny_model, passes, tiny_probes)
    plain = run_passes(tiny_model, [], tiny_probes)[2]
    assert seen.answers == plain.answers
    done = next(r for r in record if r.name == "narrow-encoder")
    assert done.changed and "of the channels of heads" in done.notes[-1].why


TEXT = """(float[1,3,6,6] pixel_values) => (float[1,9,16] logits) {
    c = Conv<strides = [2, 2]>(pixel_values, patches) r = Reshape(c, rows)
    x = Transpose<perm = [0, 2, 1]>(r) qkv = MatMul(x, w) f = Reshape(qkv, five)
    t = Transpose<perm = [2, 0, 3, 1, 4]>(f)
    q = Gather<axis = 0>(t, i0) k = Gather<axis = 0>(t, i1) v = Gather<axis = 0>(t, i2)
    a = Attention(q, k, v) at = Transpose<perm = [0, 2, 1, 3]>(a) o = Reshape(at, flat)
    logits = MatMul(o, p) }"""


def test_columns_of_one_matrix_get_one_width(graph, solo, ort):
    """q, k and v of the same product and reshape, as many exporters have it."""
    rng = np.random.default_rng(0)
    low = rng.normal(size=(21, 3)) @ rng.normal(size=(3, 96))
    arrays = {
        "w": (low + 1e-3 * rng.normal(size=(21, 96))).astype(np.float32),
        "p": rng.normal(size=(32, 16)).astype(np.float32),
        "patches": rng.normal(size=(21, 3, 2, 2)).astype(np.float32),
        "rows": np.array([1, 21, 9]), "five": np.array([1, 9, 3, 2, 16]),
        "flat": np.array([1, 9, 32]), **{f"i{n}": np.array(n) for n in range(3)},
    }  # fmt: skip
    model = solo(graph(TEXT, **arrays))
    step = NarrowEncoder(alpha=0, energy=0.999, multiple=4, by="weights")
    step.calibration = shown(model, [])  # nothing at all: by its weights alone
    result = step(model)
    x = rng.normal(size=(1, 3, 6, 6)).astype(np.float32)
    wanted = ort(model.parts["vision"], pixel_values=x)["logits"]
    found = ort(result.model.parts["vision"], pixel_values=x)["logits"]
    assert measure(wanted, found, "").sqnr_db > 40
    node = attentions(result.model)[0]
    assert {int(v.shape[3]) for v in node.inputs[:3]} == {4}
