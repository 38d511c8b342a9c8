"""Dropping tokens is timed against not dropping them; what does not pay is refused."""

import json

import pytest

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.crossover import find_crossover
from edgevlm.commands.payoff import check_payoff, measure_payoff, unpruned
from edgevlm.commands.payoff_table import stored_payoff
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.scale import scaled
from edgevlm.runtimes import find_runtime

PRUNE = Recipe("host-cpu", (Step("keep-tokens", {"keep": 3, "method": "stride"}),))
SLOW = {
    "stages": {
        "connector": {"before_ms": 1.0, "after_ms": 9.0},
        "prefill": {"before_ms": 4.0, "after_ms": 3.0},
    },
    "first_token_ratio": {"median": 2.4, "low": 2.1, "high": 2.8},
    "slower": True,
}


@pytest.fixture
def measured(micro_model, micro_probes, tmp_path):
    def measure(recipe, **how):
        model = micro_model
        for step in make_passes(recipe):
            model = step(model).model
        runtime = find_runtime("ort")
        parts = runtime.open_artifacts(tmp_path, runtime.lower(model, tmp_path), model.contract)
        sides = (model.contract, parts)
        return measure_payoff(micro_model, recipe, runtime, sides, micro_probes, n=6, **how)

    return measure


def test_each_stage_is_told_before_and_after(measured):
    payoff = measured(PRUNE)
    assert {"vision", "connector", "prefill"} <= payoff["stages"].keys()
    for stage in payoff["stages"].values():
        assert stage["before_ms"] > 0 and stage["after_ms"] > 0
    ratio = payoff["first_token_ratio"]
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert payoff["pays"] is (ratio["high"] < 1) and payoff["slower"] is (ratio["low"] > 1)
    assert payoff["kv_bytes"]["after"] < payoff["kv_bytes"]["before"]
    assert payoff["crossover"] is None


def test_the_crossover_keeps_the_share_at_every_size(measured):
    crossover = measured(PRUNE, crossover=True)["crossover"]
    sizes = [(row["tokens"], row["kept"]) for row in crossover["sizes"]]
    assert sizes == [(4, 1), (9, 3), (18, 6), (36, 12)]


@pytest.mark.parametrize("size", [4, 18, 31])
def test_a_scaled_model_runs_and_keeps_its_contract(micro_model, size):
    model = scaled(micro_model, size)
    for role in ("connector", "prefill", "decode"):
        for values, ports in (
            (model.parts[role].graph.inputs, model.contract.inputs(role)),
            (model.parts[role].graph.outputs, model.contract.outputs(role)),
        ):
            assert [tuple(v.shape) for v in values] == [p.shape for p in ports]
    rows, columns = model.contract.grid
    assert rows * columns == size == model.contract.kept_image_tokens


def test_a_site_in_the_encoder_says_why_there_is_no_crossover(tiny_model, tiny_probes, tmp_path):
    recipe = Recipe("", (Step("keep-tokens", {"keep": 16, "at": "vision:1"}),))
    found = find_crossover(tiny_model, recipe, find_runtime("ort"), tiny_probes)
    assert found["sizes"] == [] and "position table" in found["reason"]


def rounded_behind(model, **options):
    """A schedule with w8a8 and int8 caches behind it."""
    steps = compose("host-cpu", "ort", Flags(quant="w8a8", kv="int8"), model).steps
    cut = next(i for i, s in enumerate(steps) if s.name == "smooth-activations")
    return Recipe("", (*steps[:cut], Step("keep-tokens", options), *steps[cut:]))


@pytest.mark.parametrize(("at", "method"), [("llm:1", "fastv"), ("connector-out", "dart")])
def test_a_quantised_schedule_is_measured_at_every_size(tiny_model, tiny_probes, at, method):
    """Rounding comes behind the token steps at each size, as it does in the recipe."""
    recipe = rounded_behind(tiny_model, keep=16, at=at, method=method)
    rows = find_crossover(tiny_model, recipe, find_runtime("ort"), tiny_probes[:3])["sizes"]
    assert [row["tokens"] for row in rows] == [16, 32, 64, 128, 256]
    assert [row["kept"] for row in rows] == [4, 8, 16, 32, 64]
    assert all(row["before_ms"] > 0 < row["after_ms"] for row in rows)


def test_a_method_that_the_model_does_not_allow_says_why(tiny_model, tiny_probes):
    recipe = rounded_behind(tiny_model, keep=16, method="visionzip")
    found = find_crossover(tiny_model, recipe, find_runtime("ort"), tiny_probes[:3])
    assert found["sizes"] == [] and "EV230" in found["reason"] and found["pays_from"] is None


def test_unpruned_leaves_out_token_steps_only(micro_model):
    recipe = Recipe("host-cpu", (Step("fold-constants"), *PRUNE.steps, Step("drop-dead")))
    assert unpruned(micro_model, recipe).contract == micro_model.contract


def test_what_is_slower_is_refused_and_the_stage_named():
    with pytest.raises(JobFault) as caught:
        check_payoff(SLOW, force=False)
    what, why, fix = caught.value.lines()
    assert "EV232" in what and "2.40x as slow" in what
    assert "connector takes 9.00 ms instead of 1.00" in why and "--force" in fix


def test_force_keeps_what_is_slower():
    check_payoff(SLOW, force=True)


def test_no_clear_difference_is_no_refusal():
    ratio = {"median": 1.1, "low": 0.9, "high": 1.3}
    check_payoff({**SLOW, "slower": False, "first_token_ratio": ratio}, force=False)


def test_compile_refuses_before_the_old_bundle_is_touched(monkeypatch, tmp_path):
    from edgevlm.commands import finish as module

    monkeypatch.setattr(module, "measure_payoff", lambda *_, **__: SLOW)
    out = tmp_path / "b.edgevlm"
    with pytest.raises(JobFault, match="as slow"):
        compile_model("easyvqa-tiny", options_of("cpu", out, tokens="16"))
    assert not out.exists()


def test_the_bundle_remembers_and_a_forged_record_is_named(tmp_path):
    out = tmp_path / "b.edgevlm"
    report = compile_model("easyvqa-tiny", options_of("cpu", out, tokens="16", force=True))
    bundle = open_bundle(out)
    assert stored_payoff(bundle) == report["payoff"] != None  # noqa: E711  (a chain)
    record = json.loads((out / "record.json").read_text())
    record["payoff"]["stages"]["prefill"] = {"before_ms": "fast"}
    (out / "record.json").write_text(json.dumps(record))
    with pytest.raises(JobFault, match=r"record\.json"):
        stored_payoff(bundle)


def test_without_token_steps_there_is_nothing_to_pay(tmp_path):
    report = compile_model("easyvqa-tiny", options_of("cpu", tmp_path / "b.edgevlm"))
    assert report["payoff"] is None
