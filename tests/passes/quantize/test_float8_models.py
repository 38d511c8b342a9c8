"""`--quant fp8` on a whole model: recipe, answers, sharing, and runtimes that have no such type."""

from __future__ import annotations

import json
from collections import Counter

import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.legalise import legalise
from edgevlm.compiler.pass_manager import apply_unchecked, run_passes
from edgevlm.compiler.quantised import STORED, is_rounded
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.compiler.reference import observe
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.quantize.asked import quant_steps
from edgevlm.runtimes.openvino.capabilities import CAPABILITIES as OPENVINO
from edgevlm.runtimes.ort.capabilities import CAPABILITIES as ORT

FP8 = ir.DataType.FLOAT8E4M3FN


def steps():
    return make_passes(Recipe("cpu", quant_steps("fp8")))


@pytest.fixture(scope="module")
def recipe(tiny_model):
    return compose("cpu", "ort", Flags(quant="fp8"), tiny_model)


@pytest.fixture(scope="module")
def whole(tiny_model, tiny_probes):
    return run_passes(tiny_model, steps(), tiny_probes)


def test_the_scheme_is_a_recipe_that_comes_back(recipe):
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    wanted = (
        Step("quantize-weights", {"number": "e4m3"}),
        Step("quantize-activations", {"number": "e4m3", "form": "tensorrt"}),
    )
    assert [s for s in again.steps if s.options] == list(wanted)
    assert not any("smooth" in s.name for s in again.steps), "costs more than it gives"
    assert [p.options.number for p in make_passes(again) if p.name.startswith("quantize-")][:2] == [
        "e4m3",
        "e4m3",
    ]
    assert quant_steps("fp8:method=mse")[0].options == {"number": "e4m3", "method": "mse"}
    with pytest.raises(UsageFault, match=r"EV202.*time budget"):
        quant_steps("fp8:ms=20")


def test_a_whole_model_answers_as_before(whole, tiny_probes):
    model, record, seen = whole
    check = record[-1].check
    assert check.agree == len(tiny_probes)
    assert all(20 < d.sqnr_db < 60 for d in check.drift.values())
    assert all(d.sqnr_db > 25 for d in record[0].check.drift.values())
    assert seen.answers == observe(model, tiny_probes).answers
    for role in ("vision", "prefill", "decode"):
        ops = Counter(n.op_type for n in model.parts[role].graph)
        products = [n for n in model.parts[role].graph if n.op_type in ("MatMul", "Conv")]
        assert not ops["Attention"] and all(is_rounded(n.inputs[0]) for n in products)
        records = [
            json.loads(n.metadata_props[STORED])
            for n in model.parts[role].graph
            if STORED in n.metadata_props
        ]
        assert {r["number"] for r in records} == {"e4m3"} and {r["bits"] for r in records} == {8}
        assert all(29 < r["weights_db"] < 35 for r in records), (
            "3 bits of mantissa, whatever the range"
        )


def test_the_same_again_gives_the_same_bytes(whole, tiny_model, tiny_probes):
    again = apply_unchecked(tiny_model, steps(), tiny_probes)
    for role, part in whole[0].parts.items():
        assert ir.to_proto(part).SerializeToString(deterministic=True) == ir.to_proto(
            again.parts[role]
        ).SerializeToString(deterministic=True)


def test_prefill_and_decode_share_their_codes(whole):
    codes = [
        {
            v.const_value.tobytes()
            for v in whole[0].parts[role].graph.initializers.values()
            if v.dtype == FP8
        }
        for role in ("prefill", "decode")
    ]
    assert codes[0] == codes[1] and len(codes[0]) > 20


@pytest.mark.parametrize(("runtime", "capabilities"), [("ort", ORT), ("openvino", OPENVINO)])
def test_runtimes_without_it_refuse_it_in_our_words(whole, runtime, capabilities):
    with pytest.raises(JobFault) as caught:
        legalise(whole[0], runtime, capabilities)
    fault = caught.value
    assert fault.code == "EV303" and fault.why.startswith(f"dtype FLOAT8E4M3FN; {runtime} takes")
    assert "--quant w8a8" in fault.fix and "part vision" in fault.what
