"""Image rows get a factor and a branch; text rows and decode are as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.compiler.reference import Reference, observe
from edgevlm.passes import make_passes
from edgevlm.passes.quantize.compensate_modalities import CompensateModalities
from edgevlm.passes.quantize.compensation.smoothing import low_rank
from edgevlm.passes.quantize.image_branch import fit_branch, image_places, stored_rows
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.smooth_activations import SmoothActivations

RNG = np.random.default_rng(0)
START, IMAGE, ROWS, M, N = 1, slice(1, 10), 15, 16, 24  # of the micro model: 9 image tokens
OWN = [2, 7, 11]  # channels that only pictures use, and use much
TEXT = np.r_[0, 10:13]  # three words behind the picture, the rest is padding
WEIGHTS = {
    "gain": np.where(np.isin(np.arange(M), OWN), 40, 1).astype(np.float32),
    "bias": RNG.normal(size=N).astype(np.float32),
    **{n: RNG.normal(size=(M, N)).astype(np.float32) for n in "ab"},
}  # fmt: skip
BODY = """n = RMSNormalization<axis = -1>(x, gain) p = MatMul(n, a) q = MatMul(n, b)
    r = Add(p, bias) y = Add(r, q)"""


def text_of(rows):
    head = f"(float[1,{rows},{M}] x, int64[1] last_index) => (float[1,{rows},{N}] y)"
    return f"{head} {{ {BODY} }}"


@pytest.fixture
def model(graph, solo):
    """Prefill and decode with the same weights."""
    parts = {r: graph(text_of(n), **WEIGHTS) for r, n in (("prefill", ROWS), ("decode", 1))}
    return replace(solo(parts["prefill"], "prefill"), parts=parts)


def feeds(count=12, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        x = rng.normal(size=(1, ROWS, M)).astype(np.float32)
        x[:, TEXT[:, None], OWN] *= 0.02
        x[:, 13:] = 0
        found.append({"x": x, "last_index": np.array([12])})
    return found


def after(model, *steps, runs=None, starts=None):
    runs = feeds() if runs is None else runs
    rows = [{"prefill": f, "decode": {"x": f["x"][:, :1], "last_index": f["last_index"]}}
            for f in runs]  # fmt: skip
    for step in steps:
        step.calibration = Reference(
            rows, [], [], [], model.contract, [START] * len(rows) if starts is None else starts
        )
        model = step(model).model
    return model


def decibel(model, made, ort, rows, count=4):
    runs = feeds(count, seed=5)
    want, got = (
        np.concatenate([ort(m.parts["prefill"], **f)["y"][:, rows] for f in runs])
        for m in (model, made)
    )
    return measure(want, got, "y").sqnr_db


@pytest.mark.parametrize("bits", [0, 8])
def test_full_rank_is_exact_on_image_rows(model, ort, bits):
    step = CompensateModalities(bits=3, rank=M, activation_bits=bits, min_elements=1)
    made = after(model, step)
    assert decibel(model, made, ort, IMAGE) > 90
    assert decibel(model, made, ort, TEXT) < 20  # three bits, and nobody mends them
    assert ("Mul" in {n.op_type for n in made.parts["prefill"].graph}) == bool(bits)


def test_text_rows_and_decode_are_bit_for_bit_those_of_quantize_weights(model, ort):
    plain = after(model, QuantizeWeights(bits=4, min_elements=1))
    made = after(model, CompensateModalities(bits=4, rank=4, min_elements=1))
    for feed in feeds(3, seed=9):
        want, got = (ort(m.parts["prefill"], **feed)["y"] for m in (plain, made))
        outside = np.delete(np.arange(ROWS), IMAGE)
        assert np.array_equal(want[:, outside], got[:, outside])
        assert not np.allclose(want[:, IMAGE], got[:, IMAGE])
        one = {"x": feed["x"][:, :1], "last_index": feed["last_index"]}
        assert np.array_equal(*(ort(m.parts["decode"], **one)["y"] for m in (plain, made)))
    mended = {n.outputs[0].name: n.op_type for n in made.parts["prefill"].graph}
    assert mended["p"] == mended["q"] == "Concat"  # what others know the product by
    ops = [[n.op_type for n in m.parts["decode"].graph] for m in (plain, made)]
    assert ops[0] == ops[1]


@pytest.mark.parametrize("bits", [4, 8])
def test_both_modalities_gain_where_pictures_have_outliers_of_their_own(model, ort, bits):
    """int8 inputs: against smoothing for both together, and for text without branches."""
    weights = {"bits": bits, "min_elements": 1}
    for_text = SmoothActivations(tokens="text", alpha=0.5)
    shared = SmoothActivations(alpha=0.5), QuantizeWeights(**weights), QuantizeActivations()
    alone = for_text, QuantizeWeights(**weights), QuantizeActivations()
    apart = for_text, CompensateModalities(rank=8, **weights), QuantizeActivations()
    made = [after(model, *steps) for steps in (shared, alone, apart)]
    for rows in (IMAGE, TEXT):
        *without, mended = (decibel(model, m, ort, rows) for m in made)
        assert mended > max(without) + 5, (rows, without, mended)


def test_more_rank_is_better(model, ort):
    dbs = [
        decibel(model, after(model, CompensateModalities(bits=3, rank=rank, min_elements=1)), ort,
                IMAGE)
        for rank in (1, 4, 10)
    ]  # fmt: skip
    assert dbs[0] < dbs[1] < dbs[2]


@pytest.mark.parametrize(
    "options", [{}, {"bits": 4, "block": 8}, {"bits": 4, "method": "dasq"}, {"bits": 2}]
)
def test_the_numbers_that_codes_stand_for(model, ort, options):
    made = after(model, QuantizeWeights(min_elements=1, **options)).parts["prefill"]
    clone = made.clone()
    node = next(n for n in clone.graph if n.op_type == "MatMul")
    clone.graph.outputs.append(node.inputs[1])
    assert np.allclose(list(ort(clone, **feeds(1)[0]).values())[-1], stored_rows(node).T)


def test_the_branch_is_the_best_there_is_for_what_it_is_given(model):
    """Under the covariance of image rows as they are behind r, not as they came."""
    made = after(model, QuantizeWeights(bits=3, min_elements=1)).parts["prefill"]
    node = next(n for n in made.graph if n.op_type == "MatMul")
    rng = np.random.default_rng(2)
    image, text = rng.normal(size=(2, 400, M)) * np.geomspace(1, 100, M)
    text /= np.geomspace(1, 100, M)
    weights = np.asarray(WEIGHTS["a"].T, np.float64)
    ratio, ((first, second),) = fit_branch([weights], [node], image, text, 5, 8)
    assert np.ptp(ratio) > 0.1
    a, b = low_rank(weights * ratio - stored_rows(node), image / ratio, 5)
    assert np.allclose(first @ second, (a @ b).T, atol=1e-6)


def test_refusals(model, micro_model):
    step = CompensateModalities()
    asks_first = model.processor.model_copy(update={"template": "{question} <image>"})
    with pytest.raises(UsageFault, match="EV220") as caught:
        step(replace(model, processor=asks_first))
    assert "in front of the picture" in caught.value.why
    for starts in ([1, 2], []):
        runs = feeds(len(starts))
        with pytest.raises(UsageFault, match="EV220"):
            after(model, CompensateModalities(), runs=runs, starts=starts)
    with pytest.raises(UsageFault, match="EV220"):
        step(replace(model, parts={"vision": micro_model.parts["vision"]}))
    with pytest.raises(UsageFault, match="EV205"):
        after(model, QuantizeWeights(min_elements=1), CompensateModalities())
    recipe = Recipe("cpu", (Step("compensate-modalities"), Step("quantize-weights")))
    with pytest.raises(UsageFault, match="EV205"):
        make_passes(recipe)


def test_what_is_no_row_of_the_prompt_is_left(graph):
    part = graph(f"""(float[1,3,{M}] x) => (float[1,3,{N}] y) {{
        n = RMSNormalization<axis = -1>(x, gain) w = DequantizeLinear<axis = 1>(codes, s)
        t = Tanh(n) p = MatMul(n, w) q = MatMul(t, w) y = Add(p, q) }}""",
        gain=WEIGHTS["gain"], codes=np.ones((M, N), np.int8), s=np.ones(N, np.float32),
    )  # fmt: skip
    places, notes = image_places(part.graph, 3)
    assert [v.name for v in places] == ["n"] and "neither behind" in notes[0].why
    assert len(image_places(part.graph, 7)[0]) == 0


def test_a_whole_model(tiny_model, tiny_probes):
    weights = {"bits": 4, "min_elements": 64}
    recipe = (
        [QuantizeWeights(**weights), QuantizeActivations()],
        [CompensateModalities(rank=24, **weights), QuantizeActivations()],
    )
    plain, mended = (
        run_passes(tiny_model, steps, tiny_probes, min_sqnr=-50)[0] for steps in recipe
    )
    seen = observe(tiny_model, tiny_probes)
    start, kept = seen.starts[0], tiny_model.contract.kept_image_tokens
    feed = seen.feeds[0]["prefill"]
    from edgevlm.compiler.executor import ReferenceParts

    rows = [
        ReferenceParts(m.parts).call("prefill", feed)["value_1"][:, :, start : start + kept]
        for m in (tiny_model, plain, mended)
    ]
    assert measure(rows[0], rows[2], "v").sqnr_db > measure(rows[0], rows[1], "v").sqnr_db + 3
