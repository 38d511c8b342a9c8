"""mixed:ms=N: which layers stay float, against all choices tried by hand."""

from __future__ import annotations

from itertools import product as choices

import numpy as np
import pytest

from edgevlm.commands import quant_latency
from edgevlm.commands.quant_latency import glob, within_budget
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.recipe import Recipe
from edgevlm.compiler.reference import observe
from edgevlm.passes.quantize.asked import quant_steps
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.scheme import LayerRule
from edgevlm.passes.quantize.sensitivity import joint_error, w8a8_losses


class Clock:
    """A runtime whose nodes take what we say: 1.0 ms a float product, 0.25 an int8 one."""

    name = "clock"

    def __init__(self, model):
        self.products = [
            f"{role}/{n.name}" for role, part in model.parts.items() for n in part.graph
            if n.op_type == "MatMul" and n.inputs[1].is_initializer()
        ]  # fmt: skip
        self.calls = 0

    def lower(self, model, folder):
        return []

    def open_artifacts(self, folder, artifacts, contract):
        return ReferenceParts({})

    def time_nodes(self, folder, artifacts, runs):
        self.calls += 1
        return dict.fromkeys(self.products, 1.0 if self.calls == 1 else 0.25)


def products(part):
    stored = [n for n in part.graph if n.op_type == "MatMul" and n.inputs[1].is_initializer()]
    return [Layer.of(n) for n in stored]


@pytest.fixture
def timed(monkeypatch):
    """Real times are not looked at: a request takes what its nodes take."""

    def made(runtime, model, seen):
        nodes = runtime.time_nodes(None, (), 1)
        mine = {n: ms for n, ms in nodes.items() if n.partition("/")[0] in quant_latency.ROLES}
        return quant_latency.Timed(sum(mine.values()), mine)

    monkeypatch.setattr(quant_latency, "_timed", made)


def budget(model, seen, ms):
    recipe = Recipe("cpu", quant_steps(f"mixed:ms={ms},min-elements=1"))
    made = within_budget(recipe, model, seen, Clock(model))
    step = next(s for s in made.steps if s.name == "quantize-weights")
    assert "budget_ms" not in step.options
    return [rule["match"] for rule in step.options.get("layers", ())]


def test_all_stay_float_where_there_is_time_and_none_where_there_is_little(
    micro_model, micro_probes, timed
):
    seen = observe(micro_model, micro_probes)
    clock = Clock(micro_model)
    mine = [n for n in clock.products if n.partition("/")[0] in quant_latency.ROLES]
    assert set(budget(micro_model, seen, len(mine))) >= set(mine)
    assert budget(micro_model, seen, 0.25 * len(mine)) == []
    with pytest.raises(UsageFault) as caught:
        budget(micro_model, seen, 0.2 * len(mine))
    assert caught.value.code == "EV202" and "int8 wherever" in caught.value.why


def test_it_is_the_best_of_all_choices(micro_model, micro_probes, timed):
    seen = observe(micro_model, micro_probes)
    role = "prefill"
    part, feeds = micro_model.parts[role], [f[role] for f in seen.feeds]
    layers = [
        Layer.of(n) for n in part.graph if n.op_type == "MatMul" and n.inputs[1].is_initializer()
    ]
    loss = w8a8_losses(part, layers, feeds)
    names = [f"{role}/{la.node.name}" for la in layers]
    others = [
        n for n in Clock(micro_model).products if n.partition("/")[0] in quant_latency.ROLES[:-1]
    ]
    room = 3  # products of prefill that may stay float; the others' losses are 0 or theirs to spend
    ms = 0.25 * (len(names) + len(others)) + 0.75 * (room + len(others))
    stay = set(budget(micro_model, seen, ms)) & set(names)
    best = min(
        (sum(x for x, keep in zip(loss, choice, strict=True) if not keep), choice)
        for choice in choices((True, False), repeat=len(names))
        if sum(choice) <= len(stay)
    )
    assert stay == {n for n, keep in zip(names, best[1], strict=True) if keep} and stay


def test_decode_follows_where_it_has_the_weights_of_prefill(micro_model, micro_probes, timed):
    found = budget(micro_model, observe(micro_model, micro_probes), 1e6)
    decode = [n for n in Clock(micro_model).products if n.startswith("decode/")]
    assert decode and set(decode) <= set(found)


def test_a_loss_is_near_what_rounding_that_layer_alone_costs(tiny_model, tiny_probes):
    """Weights and inputs of one product at 8 bits, done by the passes, against the estimate."""
    from edgevlm.passes.quantize.quantize_activations import QuantizeActivations

    seen = observe(tiny_model, tiny_probes)
    part, feeds = tiny_model.parts["prefill"], [f["prefill"] for f in seen.feeds]
    layers = [
        Layer.of(n) for n in part.graph if n.op_type == "MatMul" and n.inputs[1].is_initializer()
    ]
    some = layers[::5]
    estimate, measured = w8a8_losses(part, some, feeds), []
    for layer in some:
        rules = [{"match": f"prefill/{glob(layer.node.name)}", "method": "max"}]
        made = QuantizeWeights(method="none", layers=rules)(tiny_model).model
        step = QuantizeActivations()
        step.calibration = seen
        measured.append(joint_error(part, step(made).model.parts["prefill"], feeds))
    ratios = np.array(estimate) / np.array(measured)
    assert 1 / 3 < np.median(ratios) < 3 and ((ratios > 0.05) & (ratios < 20)).all()
    ranks = [np.argsort(np.argsort(values)) for values in (estimate, measured)]
    assert np.corrcoef(*ranks)[0, 1] > 0.7


@pytest.mark.parametrize("name", ["a/b", "a/b[0]", "a/*", "a/?x"])
def test_a_glob_matches_its_name_alone(name):
    from fnmatch import fnmatchcase

    assert fnmatchcase(name, glob(name)) and not fnmatchcase(name + "x", glob(name))
    assert not fnmatchcase(name.replace("*", "z").replace("?", "z") + "z", glob(name))
    LayerRule(match=glob(name))


def test_from_the_command_line(edgevlm, tmp_path):
    out = tmp_path / "b.edgevlm"
    args = ("compile", "easyvqa-tiny", "--target", "cpu", "--payoff", "none", "--quant")
    ended = edgevlm(*args, "mixed:ms=10000", "-o", out)
    assert ended.status == 0, ended.err
    text = (out / "recipe.toml").read_text()
    assert 'method = "none"' in text and "budget_ms" not in text
    again = edgevlm("compile", "easyvqa-tiny", "--target", "cpu", "--payoff", "none",
                    "--recipe", out / "recipe.toml", "-o", tmp_path / "c")  # fmt: skip
    assert again.status == 0, again.err
    refused = edgevlm(*args, "mixed:ms=0.001", "-o", tmp_path / "d")
    assert (refused.status, refused.code) == (2, "EV202") and "give more time" in refused.err
