"""The gate behind quantisation, and what inspect says of its layers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from micro.shades import GREYS, nearest_grey, shade_classifier, shade_files

from edgevlm.commands import quant_drop, quant_gate
from edgevlm.commands.quant_drop import blamed_layers, measure_drop
from edgevlm.commands.quant_gate import check_speed, measure_speed
from edgevlm.commands.quant_show import LayerRow
from edgevlm.commands.quant_table import average_bits, layer_rows
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked, run_passes
from edgevlm.compiler.recipe import Recipe
from edgevlm.compiler.reference import observe
from edgevlm.models.answer import probe_inputs
from edgevlm.models.datasets import fashion_mnist, load_dataset
from edgevlm.models.onnx.frontend import import_onnx
from edgevlm.models.probes import drawn_probes
from edgevlm.passes import make_passes
from edgevlm.passes.quantize.asked import quant_steps
from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

COMPILE = ("compile", "easyvqa-tiny", "--target", "cpu", "--payoff", "none")


@pytest.fixture(scope="module")
def both(tiny_model, tiny_probes):
    rules = [{"match": "vision/*", "bits": 4}]
    steps = [QuantizeWeights(layers=rules), QuantizeActivations()]
    model, _, seen = run_passes(tiny_model, steps, tiny_probes)
    return tiny_model, observe(tiny_model, tiny_probes), model, seen


def test_rows_say_bits_and_how_far_off(both, ort):
    base, before, model, after = both
    rows = layer_rows(base, model, before, after)
    assert {r["bits"] for r in rows if r["part"] == "vision" and r["kind"] == "product"} == {4}
    assert {r["bits"] for r in rows if r["part"] == "prefill"} == {8}
    assert {r["input"] for r in rows if r["kind"] == "product"} == {"int8"}
    assert {r["input"] for r in rows if r["kind"] in ("table", "convolution")} == {"float"}
    row = next(r for r in rows if r["part"] == "connector" and r["kind"] == "product")
    name, power = row["output"], np.zeros(2)
    for a, b in zip(before.feeds, after.feeds, strict=True):
        seen = []
        for part, feed in ((base.parts["connector"], a), (model.parts["connector"], b)):
            clone = part.clone()
            clone.graph.outputs[:] = [v for n in clone.graph for v in n.outputs if v.name == name]
            seen.append(ort(clone, **feed["connector"])[name].astype(np.float64))
        power += np.square(seen[0]).sum(), np.square(seen[0] - seen[1]).sum()
    assert row["drift_db"] == pytest.approx(10 * np.log10(power[0] / power[1]), abs=0.02)
    products = {r["digest"]: r for r in rows}.values()
    assert average_bits(rows) == pytest.approx(
        sum(r["bits"] * r["weights"] for r in products) / sum(r["weights"] for r in products)
    )


def test_rows_of_fp8_say_so(micro_model, micro_probes):
    steps = make_passes(Recipe("cpu", quant_steps("fp8:min-elements=1")))
    model = apply_unchecked(micro_model, steps, micro_probes)
    seen = [observe(m, micro_probes) for m in (micro_model, model)]
    rows = [
        LayerRow(**r).model_dump(exclude_unset=True) for r in layer_rows(micro_model, model, *seen)
    ]
    assert {(r["number"], r["bits"], r["input"]) for r in rows} == {("e4m3", 8, "e4m3")}
    assert {r["kind"] for r in rows} == {"product", "convolution"}, "tables stay float"
    assert average_bits([r | {"digest": str(i)} for i, r in enumerate(rows)]) == 8


def test_answers_are_compared_on_questions_that_were_not_calibrated_on(both):
    base, _, model, _ = both
    sides = (base, ReferenceParts(base.parts)), (model, ReferenceParts(model.parts))
    drop = measure_drop(*sides, "easy-vqa:5", ())
    assert drop["of"] == "accuracy on easy-vqa train" and drop["n"] == 500
    assert drop["drop_points"] == pytest.approx(100 * (drop["before"] - drop["after"]))
    assert 0 <= drop["before"] <= 1


def test_a_classifier_is_judged_on_pictures_it_was_not_calibrated_on(tmp_path, monkeypatch):
    """Against one that tells black from everything else alone, whose answers are known."""
    monkeypatch.setattr(fashion_mnist, "FOLDER", shade_files(tmp_path, "train"))
    sides = []
    for i, greys in enumerate((GREYS, (GREYS[0], *[300 + k for k in range(9)]))):
        (tmp_path / str(i)).mkdir()
        model = import_onnx(shade_classifier(tmp_path / str(i), fashion_mnist.CLASSES, greys))
        sides.append((model, ReferenceParts(model.parts)))
    drop = measure_drop(*sides, "fashion-mnist:20", ())
    assert drop["of"] == "accuracy on fashion-mnist validation" and drop["n"] == 500
    rows = load_dataset("fashion-mnist", "validation", limit=520).rows[:500]
    label = np.array([fashion_mnist.CLASSES.index(row.answer) for row in rows])
    grey = np.array([int(row.image[0, 0, 0]) for row in rows])
    far = np.abs(grey[:, None] - np.array([[GREYS[0], *[300 + k for k in range(9)]]]))
    assert drop["before"] == (nearest_grey(grey, range(10)) == label).mean()
    assert drop["after"] == (far.argmin(1) == label).mean() < drop["before"]
    assert drop["drop_points"] == pytest.approx(100 * (drop["before"] - drop["after"]), abs=1e-3)


def test_a_classifier_of_other_classes_is_judged_on_its_probes(tmp_path):
    model = import_onnx(shade_classifier(tmp_path, [f"thing {i}" for i in range(10)]))
    model = replace(model, probes=drawn_probes())
    probes = probe_inputs(model.contract, model.processor, b"", model.probes)
    side = (model, ReferenceParts(model.parts))
    found = measure_drop(side, side, "fashion-mnist:20", probes)
    assert found["of"] == "probe answers that changed" and found["n"] == len(probes)


def test_without_a_data_set_changed_answers_count(both, tiny_probes):
    base, _, model, _ = both
    sides = (base, ReferenceParts(base.parts)), (model, ReferenceParts(model.parts))
    drop = measure_drop(*sides, None, tiny_probes)
    assert drop["of"] == "probe answers that changed" and drop["before"] is None
    assert measure_drop(sides[0], sides[0], None, tiny_probes)["drop_points"] == 0


def test_the_layers_to_blame_are_those_with_two_bits(tiny_model, tiny_probes):
    seen = observe(tiny_model, tiny_probes)
    outputs = [
        f"{role}/{n.outputs[0].name}"
        for role, part in tiny_model.parts.items()
        for n in part.graph
        if n.op_type == "MatMul" and n.inputs[1].is_initializer()
    ]
    grids = {name: Grid(2 if i in (3, 11, 17) else 8) for i, name in enumerate(outputs)}
    named = {
        f"{role}/{n.name}"
        for role, part in tiny_model.parts.items()
        for n in part.graph
        if grids.get(f"{role}/{n.outputs[0].name}") == Grid(2)
    }
    assert set(blamed_layers(tiny_model, seen, grids)) == named and len(named) == 3


class Slow:
    """Parts that take `times` as long as the real ones."""

    def __init__(self, parts, times):
        self.parts, self.times = parts, times

    def call(self, role, feeds):
        for _ in range(self.times - 1):
            self.parts.call(role, feeds)
        return self.parts.call(role, feeds)


class Timed:
    """A runtime whose nodes take what we say."""

    def time_nodes(self, folder, artifacts, runs):
        was = {"vision/a": 1.0, "vision/b": 1.0}
        now = {"vision/a": 3.0, "vision/b": 1.5, "vision/q": 0.75, "vision/c": 0.1}
        return {"float": was, "int8": now}[folder]


@pytest.mark.parametrize("times", [(1, 4), (4, 1)])
def test_slower_than_float_is_refused_and_says_where(micro_model, micro_probes, times):
    sides = [
        (micro_model.contract, Slow(ReferenceParts(micro_model.parts), n), name, ())
        for n, name in zip(times, ("float", "int8"), strict=True)
    ]
    speed = measure_speed(Timed(), *sides, micro_probes, n=10)
    assert speed["slower"] == (times == (1, 4)) and speed["n"] == 10
    if not speed["slower"]:
        assert speed["request_ratio"]["high"] < 1 and speed["blame"] == []
        return check_speed(speed, "w8a8", force=False)
    with pytest.raises(JobFault) as caught:
        check_speed(speed, "w8a8", force=False)
    fault = caught.value
    assert fault.code == "EV233" and "w8a8 makes a request" in fault.what
    assert "vision/a (+2.000 ms), vision/q (+0.750 ms), vision/b (+0.500 ms)" in fault.why
    check_speed(speed, "w8a8", force=True)


def test_a_ratio_close_to_one_is_no_difference():
    assert quant_gate.TOLERANCE < 1.1


def test_too_large_a_loss_is_refused_and_the_old_bundle_stays(edgevlm, tmp_path, monkeypatch):
    monkeypatch.setattr(quant_drop, "QUESTIONS", 100)
    out = tmp_path / "b.edgevlm"
    assert edgevlm(*COMPILE, "-o", out).status == 0
    before = (out / "manifest.json").read_bytes()
    bad = ("--quant", "w3a8:method=max,bits=2", "--min-sqnr", "-50", "--max-drop", "2")
    ended = edgevlm(*COMPILE, *bad, "--calib", "easy-vqa:4", "-o", out, "--force")
    assert ended.status == 0, "--force keeps it"
    (tmp_path / "c.edgevlm").mkdir()
    ended = edgevlm(*COMPILE, *bad, "--calib", "easy-vqa:4", "-o", tmp_path / "d.edgevlm")
    assert (ended.status, ended.code) == (1, "EV234")
    assert "points (accuracy on easy-vqa train, n = 100)" in ended.err and "prefill/" in ended.err
    assert not (tmp_path / "d.edgevlm").exists() and before != (out / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--max-drop", "1"), "EV220", "nothing is quantised"),
        (("--quant", "w8", "--max-drop", "-1"), "EV202", "from 0 to 100"),
        (("--quant", "w8", "--max-drop", "nan"), "EV202", "from 0 to 100"),
    ],
)
def test_limits_that_mean_nothing(edgevlm, tmp_path, args, code, said):
    ended = edgevlm(*COMPILE, "-o", tmp_path / "b", *args)
    assert (ended.status, ended.code) == (2, code) and said in ended.err


def test_inspect_lists_and_draws_layers(edgevlm, tmp_path):
    out, picture = tmp_path / "b.edgevlm", tmp_path / "layers.png"
    ended = edgevlm(*COMPILE, "--quant", "mixed:avg=5bit", "-o", out)
    assert ended.status == 0, ended.err
    assert "mixed:avg=5bit: 5." in ended.err
    shown = edgevlm("inspect", out, "--quant", "--plot", picture)
    assert shown.status == 0 and "gptq" in shown.err and picture.read_bytes()[1:4] == b"PNG"
    rows = edgevlm("inspect", out, "--quant", "--json").json["quant"]["layers"]
    assert len({row["bits"] for row in rows}) > 2
    wrong = edgevlm("inspect", out, "--plot", tmp_path / "x.gif")
    assert (wrong.status, wrong.code) == (2, "EV220")


def test_a_float_bundle_and_a_model_have_no_quantised_layers(edgevlm, tmp_path):
    assert edgevlm(*COMPILE, "-o", tmp_path / "b").status == 0
    for name in (tmp_path / "b", "easyvqa-tiny"):
        ended = edgevlm("inspect", name, "--quant")
        assert (ended.status, ended.code) == (2, "EV220") and "w8a8" in ended.err


@pytest.fixture(scope="module")
def rounded(edgevlm, tmp_path_factory):
    out = tmp_path_factory.mktemp("rounded") / "b.edgevlm"
    assert edgevlm(*COMPILE, "--quant", "w8", "-o", out).status == 0
    return out


@pytest.mark.parametrize(
    "broken", [3, {}, {"layers": [3]}, {"layers": [{"part": "x"}]}, {"layers": None}]
)
def test_a_broken_record_is_told(edgevlm, rounded, tmp_path, broken):
    out = shutil.copytree(rounded, tmp_path / "b.edgevlm")
    record = json.loads((out / "record.json").read_text())
    (out / "record.json").write_text(json.dumps(record | {"quant": broken}))
    ended = edgevlm("inspect", out, "--quant")
    assert (ended.status, ended.code) == (1, "EV322"), ended.err
