"""httm on the command line is the pass merge-attention, whose own tests say what it does."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.recipe import Step
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.merge_attention import MergeAttention
from edgevlm.passes.tokens.methods.httm import Httm
from edgevlm.passes.tokens.schedule import parse_asked


def test_it_is_one_step_with_the_options_that_were_given(tiny_model):
    asked = parse_asked(None, "httm:queries=0.5,block=64", None)
    steps = compose("host-cpu", "ort", Flags(asked), tiny_model).steps
    (step,) = [step for step in steps if step.name == "merge-attention"]
    assert step.options == {"queries": 0.5, "block": 64}
    options = {"queries": 0.5, "block": 64, "form": "fpga"}
    assert asked.steps(tiny_model, "fpga") == [Step("merge-attention", options)]


def test_it_merges_in_every_block_and_keeps_all_tokens(tiny_model):
    model = tiny_model
    for step in make_passes(
        compose("host-cpu", "ort", Flags(parse_asked(None, "httm", None)), model)
    ):
        result = step(model)
        model = result.model
        if step.name == "merge-attention":
            assert [note.kind for note in result.notes] == ["matched"] * 4
    assert model.contract == tiny_model.contract


def test_its_options_are_those_of_the_pass():
    fields = MergeAttention.Options.model_fields
    for name, field in Httm.Options.model_fields.items():
        assert (field.default, field.description) == (
            fields[name].default,
            fields[name].description,
        )
    assert set(fields) - set(Httm.Options.model_fields) == {"blocks", "form"}


@pytest.mark.parametrize(
    ("tokens", "at", "positions"),
    [("16", None, None), (None, "vision:1", None), (None, None, "renumber")],
)
def test_a_budget_a_site_or_a_policy_would_do_nothing(tokens, at, positions):
    with pytest.raises(UsageFault, match="drops no tokens") as caught:
        parse_asked(tokens, "httm", at, positions)
    assert caught.value.code == "EV220" and caught.value.fix.endswith("--prune httm")
