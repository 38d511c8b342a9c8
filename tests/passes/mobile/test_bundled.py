"""All mobile passes on the bundled models: four axes, no index, the same answers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgevlm.compiler.attention import plain_attention
from edgevlm.compiler.exported_model import load_model
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.models.answer import inputs_of
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked

MOBILE = ("separate-qkv", "unfold-patches", "one-hot-tokens", "four-axes")
INDEXED = {"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "TopK", "ArgMax"}


@pytest.fixture(scope="session")
def passes():
    from edgevlm.passes import PASSES

    return [PASSES[name]() for name in MOBILE]


def parts_are_plain(model):
    for role, part in model.parts.items():
        made = plain_attention(part)
        counts = Counter(n.op_type for n in made.graph)
        assert not counts.keys() & {*INDEXED, "Attention", "Conv"}, (role, counts)
        values = [v for n in made.graph for v in (*n.inputs, *n.outputs) if v is not None]
        assert max(len(v.shape) for v in values if v.name) <= 4, role


@pytest.mark.parametrize("name", ["easyvqa-tiny", "scenes-tiny"])
def test_answers_are_the_same(name, passes):
    model = load_model(bundled_folder(name))
    clean = make_passes(compose("host-cpu", "ort", Flags(), model))
    probes = inputs_of(model)[::3]
    before, _, reference = run_passes(model, clean, probes)
    made, record, seen = run_passes(before, passes, probes)
    assert [a.name for a in record if a.changed] == ["unfold-patches", "one-hot-tokens"]
    assert all(a.check.agree == len(probes) for a in record if a.changed)
    assert seen.answers == reference.answers and any(map(len, seen.answers))
    parts_are_plain(made)


#: (method, site): TopK, greedy chains, merging, five axes, several selections in a row
PRUNED = [
    "apet@connector-out",
    "hilo@vision-out",
    "tome@vision:1",
    "sparsevlm@llm:1",
    "fastv@llm:2",
]


@pytest.mark.parametrize("asked", PRUNED)
def test_with_tokens_dropped(asked, tiny_model, tiny_probes, passes):
    method, at = asked.split("@")
    flags = Flags(parse_asked("16", method, at))
    probes = tiny_probes[::6]
    first = make_passes(compose("host-cpu", "ort", flags, tiny_model))
    before, _, reference = run_passes(tiny_model, first, probes)
    made, _, seen = run_passes(before, passes, probes)
    assert seen.answers == reference.answers and any(map(len, seen.answers))
    for here, there in zip(seen.choices, reference.choices, strict=True):
        assert here.keys() == there.keys()
        assert all(np.array_equal(here[k], there[k]) for k in here)
    parts_are_plain(made)


def test_merged_attention_of_six_axes(tiny_model, tiny_probes, passes):
    """httm has values of six axes, a scatter a head and places a head."""
    recipe = compose("host-cpu", "ort", Flags(parse_asked(None, "httm", None)), tiny_model)
    before, _, reference = run_passes(tiny_model, make_passes(recipe), tiny_probes[::6])
    values = [v for n in before.parts["vision"].graph for v in n.outputs]
    assert max(len(v.shape) for v in values) > 4
    made, _, seen = run_passes(before, passes, tiny_probes[::6])
    assert seen.answers == reference.answers
    parts_are_plain(made)


def test_rounded_models_stay_rounded(tiny_model, tiny_probes, passes):
    """Codes are moved and multiplied as codes: as many products of integers as before."""
    recipe = compose("host-cpu", "openvino", Flags(quant="w8a8"), tiny_model)  # convolutions too
    before, _, reference = run_passes(tiny_model, make_passes(recipe), tiny_probes[::6])
    made, _, seen = run_passes(before, passes, tiny_probes[::6])
    assert seen.answers == reference.answers

    def integers(model):
        return sum(
            v.dtype.bitwidth <= 8 and v.dtype.is_integer()
            for v in model.parts["vision"].graph.initializers.values()
        )

    assert integers(made) == integers(before) > 20
    (product,) = [n for n in made.parts["vision"].graph if n.op_type == "MatMul"][:1]
    assert product.inputs[1].producer().op_type == "DequantizeLinear"
    parts_are_plain(made)
