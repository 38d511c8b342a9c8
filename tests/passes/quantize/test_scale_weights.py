"""AWQ's scales at the places of a graph: exact, better to round, padding and registers left out."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import Reference, observe
from edgevlm.models.answer import inputs_of
from edgevlm.passes.quantize import scale_weights
from edgevlm.passes.quantize.compensation.smoothing import awq_scale
from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.rounding import to_nearest
from edgevlm.passes.quantize.scale_weights import ScaleWeights
from edgevlm.passes.quantize.special import special_rows

RNG = np.random.default_rng(0)
ARRAYS = {
    "gain": np.where(np.arange(16) % 5 == 0, 30, 1.0), "a": RNG.normal(size=(16, 24)),
    "b": RNG.normal(size=(16, 24)), "cls": np.zeros((1, 2, 16)), "wide": np.ones(16),
    "up": np.diag(np.geomspace(1, 30, 16)) + 0.01 * RNG.normal(size=(16, 16)),
}  # fmt: skip
ROW = """(float[1,9,16] x) => (float[1,9,24] y) {
    n = RMSNormalization<axis = -1>(x, gain) p = MatMul(n, a) q = MatMul(n, b) y = Add(p, q) }"""
#: two register rows of huge norm, in channels that patches hardly use
TOWER = """(float[1,7,16] x) => (float[1,9,24] y) {
    s = Concat<axis = 1>(cls, x) n = Mul(s, wide) h = MatMul(n, up) r = Relu(h)
    y = MatMul(r, a) }"""


@pytest.fixture
def part(graph):
    def make(text, **more):
        arrays = {n: np.asarray(v, np.float32) for n, v in (ARRAYS | more).items()}
        return graph(text, **{n: v for n, v in arrays.items() if re.search(rf"\b{n}\b", text)})

    return make


def feeds(rows=9, count=6, seed=0):
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(1, rows, 16)).astype(np.float32)} for _ in range(count)]


def after(model, runs, *steps):
    for step in steps:
        step.calibration = Reference([{"vision": f} for f in runs], [], [])
        model = step(model).model
    return model.parts["vision"]


def gain_of(part):
    return next(n for n in part.graph if "Norm" in n.op_type).inputs[1].const_value.numpy()


@pytest.mark.parametrize("options", [{}, {"tokens": "qig"}, {"activation_bits": 8},
                                     {"tokens": "qig", "activation_bits": 8}])  # fmt: skip
def test_it_is_exact_and_the_rounded_model_errs_less(part, solo, ort, options):
    model, seen, unseen = part(ROW), feeds(), feeds(count=1, seed=9)[0]
    scaled = after(solo(model), seen, ScaleWeights(block=0, **options))
    assert measure(ort(model, **unseen)["y"], ort(scaled, **unseen)["y"], "y").sqnr_db > 100
    errors = []
    for first in ((), (ScaleWeights(block=0, **options),)):
        made = after(solo(model), seen, *first, QuantizeWeights(bits=4, min_elements=1))
        errors.append(measure(ort(model, **unseen)["y"], ort(made, **unseen)["y"], "y").sqnr_db)
    assert errors[1] > errors[0] + 2


def test_the_scale_is_that_of_awq_for_both_products_together(part, solo, ort):
    model, seen = part(ROW), feeds()
    clone = model.clone()
    clone.graph.outputs.append(next(n for n in clone.graph if "Norm" in n.op_type).outputs[0])
    x = np.concatenate([list(ort(clone, **f).values())[-1].reshape(-1, 16) for f in seen])
    weights = np.concatenate([ARRAYS["a"], ARRAYS["b"]], axis=1).T.astype(np.float32)
    rounded = lambda w: to_nearest(w, Grid(3), 8, "max").weights()  # noqa: E731
    scale, _ = awq_scale(weights, x, rounded)
    assert np.ptp(scale) > 0.5
    found = gain_of(after(solo(model), seen, ScaleWeights(bits=3, block=8)))
    assert np.allclose(found * scale, ARRAYS["gain"], rtol=1e-5)


def test_uniform_weights_of_tokens_are_awq(part, solo, monkeypatch):
    alike = lambda error, x, start: np.full(len(x), 1 / len(x))  # noqa: E731
    model, gains = part(ROW), []
    monkeypatch.setattr(scale_weights, "token_weights", alike)
    for tokens in ("all", "qig"):
        gains.append(gain_of(after(solo(model), feeds(), ScaleWeights(tokens=tokens))))
    assert np.allclose(*gains)


def test_a_register_row_of_huge_norm_chooses_the_scale_unless_left_out(part, solo):
    huge = np.where(np.arange(16) == 3, 1e3, 0.01) * np.ones((1, 2, 16))
    scales = {}
    for name, rows in (("none", np.zeros((1, 2, 16))), ("planted", huge)):
        model = part(TOWER, cls=rows)
        for special in (True, False):
            step = ScaleWeights(special=special, equalise=True, block=0)
            made = after(solo(model), feeds(7), step)
            last = [n for n in made.graph if n.op_type == "MatMul"][-1]
            found = last.inputs[1].const_value.numpy() / ARRAYS["a"]
            scales[name, special] = found[:, 0] / found[0, 0]
    assert np.allclose(scales["planted", False], scales["none", False], rtol=1e-4)
    assert not np.allclose(scales["planted", True], scales["none", False], rtol=0.1)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("s = Concat<axis = 1>(x, cls) y = Relu(s)", 0),
        ("s = Concat<axis = 2>(x, x) y = Relu(s)", 0),
        ("r = Relu(cls) s = Concat<axis = -2>(r, x, cls) y = Relu(s)", 2),
        ("y = Relu(x)", 0),
    ],
)
def test_rows_in_front_of_the_picture(part, text, rows):
    model = part(f"(float[1,7,16] x) => (float[1,9,16] y) {{ {text} }}")
    assert special_rows(model.graph) == rows


def test_padding_never_counts_and_the_first_part_decides(micro_model, micro_probes):
    """Rows behind the prompt, and what decode is given, may be anything: scales are the same."""
    seen, gains = observe(micro_model, micro_probes), []
    for channel in (0, 5):
        other = (
            np.eye(8, dtype=np.float32)[channel] * 1e3
        )  # large in one channel, behind a norm too
        for feeds_ in seen.feeds:
            last = int(feeds_["prefill"]["last_index"][0])
            feeds_["prefill"]["inputs_embeds"][:, last + 1 :] = other
            feeds_["decode"]["inputs_embeds"][:] = other
        step = ScaleWeights(bits=3, block=0)
        step.calibration = seen
        made = step(micro_model).model.parts
        gains.append([gain_of(made[role]) for role in ("prefill", "decode")])
    assert np.array_equal(*gains) and np.array_equal(*gains[0]) and np.ptp(gains[0]) > 0


def test_a_sample_is_at_most_some_hundreds_of_all_rows():
    rows = [np.full((400, 3), i, np.float32) for i in range(5)]
    picked = scale_weights._sample(rows, 3)
    assert picked.shape == (scale_weights.SAMPLE, 3) and len(np.unique(picked)) == 5
    assert len(scale_weights._sample(rows[:1], 3)) == 400
    assert scale_weights._sample([], 3).shape == (0, 3)


@pytest.mark.parametrize("options", [{}, {"tokens": "qig", "special": False}])
def test_a_whole_model_is_the_same_and_shares_its_weights(make_micro, options):
    model = make_micro(layers=2, heads=4, kv_heads=2, width=16, tower=2)
    probes = inputs_of(model)
    step = ScaleWeights(equalise=True, bits=3, block=0, **options)
    made, record, _ = run_passes(model, [step], probes)
    assert min(d.sqnr_db for d in record[0].check.drift.values()) > 80
    arrays = [
        sorted(v.const_value.numpy().tobytes() for v in made.parts[role].graph.initializers.values()
               if len(v.shape) == 2 and v.const_value.dtype.is_floating_point())
        for role in ("prefill", "decode")
    ]  # fmt: skip
    assert arrays[0] == arrays[1]


def test_nothing_seen(part, solo):
    step = ScaleWeights()
    step.calibration = Reference([], [], [])
    result = step(solo(part(ROW)))
    assert not result.changed and "never seen finite" in result.notes[0].why
