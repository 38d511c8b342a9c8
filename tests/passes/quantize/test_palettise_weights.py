"""palettise-weights on whole graphs and models: forms, sharing, what stays, and who refuses it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import load_model, save_model
from edgevlm.compiler.legalise import check_tables, legalise
from edgevlm.compiler.palettes import find_palette
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.quantised import STORED
from edgevlm.compiler.recipe import Recipe
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.quantize.asked import quant_steps
from edgevlm.passes.quantize.palettise_weights import PalettiseWeights
from edgevlm.runtimes.coreai.capabilities import CAPABILITIES as COREAI
from edgevlm.runtimes.openvino.capabilities import CAPABILITIES as OPENVINO
from edgevlm.runtimes.ort.capabilities import CAPABILITIES as ORT

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


FORMS = {
    "MatMul": ("(float[2,7,48] x) => (float[2,7,40] y) { y = MatMul(x, w) }", normal(48, 40), 1),
    "Gemm, transposed": (
        "(float[7,40] x) => (float[7,48] y) { y = Gemm<transB = 1>(x, w) }", normal(48, 40), 0),
    "Conv": (
        "(float[1,6,8,8] x) => (float[1,24,6,6] y) { y = Conv(x, w) }", normal(24, 6, 3, 3), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("bits", "group"), [(4, 8), (4, 0), (6, 8), (2, 16)])
def test_the_weights_are_rounded_and_nothing_else(name, bits, group, graph, solo, ort):
    """ONNX Runtime on the tables, against ONNX Runtime on float weights looked up by hand."""
    text, w, axis = FORMS[name]
    result = PalettiseWeights(bits=bits, group=group, min_elements=1)(solo(graph(text, w=w)))
    after = result.model.parts["vision"]
    (found,) = filter(None, map(find_palette, after.graph))
    indices = found.indices.const_value.numpy().astype(np.uint8)
    assert found.indices.dtype.name == ("UINT4" if bits <= 4 else "UINT8")
    assert found.tables.shape[1] == 2**bits and indices.max() < 2**bits
    of = np.arange(w.shape[axis]) // (w.shape[axis] // len(found.tables))
    shape = [-1 if i == axis else 1 for i in range(w.ndim)]
    looked_up = found.tables[of.reshape(shape), indices]
    error = np.square(w - looked_up).sum() / np.square(w).sum()
    assert error < {2: 0.16, 4: 0.013, 6: 0.001}[bits]  # of a normal: 0.118, 0.0095, 0.0006
    x = normal(*[int(d) for d in after.graph.inputs[0].shape])
    want = ort(graph(text, w=looked_up), x=x)["y"]
    np.testing.assert_allclose(ort(after, x=x)["y"], want, rtol=1e-4, atol=1e-4)
    assert "w" not in after.graph.initializers


def test_a_weight_that_two_nodes_share_is_stored_once(graph, solo, ort):
    text = "(float[1,32] x) => (float[1,32] y) { a = MatMul(x, w) b = Neg(a) y = MatMul(b, w) }"
    after = PalettiseWeights(min_elements=1)(solo(graph(text, w=normal(32, 32)))).model.parts
    tables = [n for n in after["vision"].graph if find_palette(n)]
    assert len(tables) == 1 and len(list(tables[0].outputs[0].uses())) == 2
    ort(after["vision"], x=normal(1, 32))


def test_what_stays_float_is_told(graph, solo):
    text = """(int64[1,3] i, float[1,32] x) => (float[1,3,32] r, float[1,32] y) {
        [rows] r = Gather(t, i) [small] y = MatMul(x, w) }"""
    part = graph(text, t=normal(40, 32), w=normal(32, 32))
    result = PalettiseWeights(min_elements=1025)(solo(part))
    told = {note.where: note.why for note in result.notes}
    assert "embedding" in told["vision/rows"] and "min_elements" in told["vision/small"]
    assert not result.changed and not any(map(find_palette, result.model.parts["vision"].graph))


@pytest.fixture(scope="module")
def whole(make_micro):
    source = make_micro(layers=1, width=64, heads=2, tower=1)
    steps = make_passes(Recipe("iphone", quant_steps("lut6")))
    return source, *run_passes(source, steps, inputs_of(source))


def test_a_whole_model_keeps_within_its_floor(whole):
    """Tables of 64 leave 30 dB of the weights, and so more than 15 of any part."""
    _, model, record, _ = whole
    assert [r.name for r in record] == ["palettise-weights", "quantize-weights"]
    drift = [d.sqnr_db for d in record[0].check.drift.values()]
    assert min(drift) > make_passes(Recipe("iphone", quant_steps("lut6")))[0].floor_db == 15
    told = [json.loads(n.metadata_props[STORED]) for n in model.parts["decode"].graph
            if find_palette(n)]  # fmt: skip
    assert len(told) == 7 and all(t["bits"] == 6 and t["weights_db"] > 28 for t in told)


def test_prefill_and_decode_have_the_same_tables(whole):
    """Whatever they share, they share still."""
    model = whole[1]
    sides = []
    for role in ("prefill", "decode"):
        found = filter(None, map(find_palette, model.parts[role].graph))
        sides.append(sorted(p.tables.tobytes() + p.indices.const_value.tobytes() for p in found))
    assert sides[0] == sides[1] and len(sides[0]) == 7


def test_it_is_kept_on_disk_as_it_is(whole, tmp_path):
    save_model(whole[1], tmp_path)
    again = load_model(tmp_path)
    for role, part in whole[1].parts.items():
        mine, found = (
            [p.indices.const_value.tobytes() for p in map(find_palette, g.graph) if p]
            for g in (part, again.parts[role])
        )
        assert mine == found


@pytest.mark.parametrize(("name", "taken"), [("ort", ORT), ("openvino", OPENVINO)])
def test_who_has_no_tables_refuses_them(whole, name, taken):
    for call in (
        lambda: legalise(whole[1], name, taken),
        lambda: check_tables(Recipe("cpu", quant_steps("lut4")), name, taken),
    ):
        with pytest.raises(JobFault) as caught:
            call()
        assert caught.value.code == "EV303" and "lookup tables" in caught.value.why
        assert name in caught.value.why and "--quant w4a16" in caught.value.fix
    check_tables(Recipe("cpu", quant_steps("w4a16")), name, taken)
    check_tables(Recipe("iphone", quant_steps("lut4")), "coreai", COREAI)


def test_options_are_those_of_the_tables():
    assert quant_steps("lut4:group=0")[0].options == {"bits": 4, "group": 0}
    assert quant_steps("lut4:group=0")[1].options == {}, "embedding tables have none"
    assert [quant_steps(f"lut{n}")[0].options["bits"] for n in (4, 6, 8)] == [4, 6, 8]
    with pytest.raises(UsageFault, match="block"):
        make_passes(Recipe("iphone", quant_steps("lut4:block=32")))
    with pytest.raises(UsageFault, match="bits"):
        make_passes(Recipe("iphone", quant_steps("lut4:bits=5")))
