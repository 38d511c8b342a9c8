"""What `Pass` promises for every pass: options checked, inputs left alone, honest 'changed'."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from pydantic import Field

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult


class Options(PassOptions):
    keep: int = Field(4, ge=1, le=9)
    ratio: float = 0.5
    deep: bool = False


class Idle(Pass):
    name, summary, effect, Options = "idle", "does nothing", Effect.EXACT, Options

    def run(self, model):
        return PassResult(model, False, (Note("skipped", "all", "nothing to do"),))


def make(run, **members):
    return type("Made", (Idle,), {"run": run, **members})()


def other_name(part):
    part.graph.node(0).name = "another"


def other_output(part):
    part.graph.outputs.pop()


def other_input(part):
    part.graph.node(1).replace_input_with(0, part.graph.inputs[0])


def other_attribute(part):
    node = part.graph.node(0)
    node.attributes["axis"] = ir.AttrInt64("axis", 0)


def other_weight(part):
    value = next(iter(part.graph.initializers.values()))
    value.const_value = ir.tensor(value.const_value.numpy() * 0, name=value.name)


def other_node(part):
    part.graph.append(ir.node("Identity", [part.graph.inputs[0]]))


def one_node_less(part):
    part.graph.remove(part.graph.node(-1))


def other_shape(part):
    part.graph.node(0).outputs[0].shape = ir.Shape([1])


def other_opset(part):
    part.opset_imports["x"] = 1


EDITS = [other_name, other_output, other_input, other_attribute, other_weight, other_node,
         one_node_less, other_shape, other_opset]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("story", ["not changed", "changed", "changed, and another part cloned"])
def test_a_pass_that_edits_in_place_is_caught_whatever_it_says(micro_model, edit, story):
    def run(self, model):
        edit(model.parts["vision"])
        if "cloned" in story:
            model = model.with_parts(embed=model.parts["embed"].clone())
        return PassResult(model, story != "not changed")

    with pytest.raises(JobFault, match="in place") as caught:
        make(run)(micro_model.clone())
    assert caught.value.code == "EV501" and "idle" in caught.value.what


@pytest.mark.parametrize("edit", EDITS)
def test_a_pass_that_edits_a_clone_is_left_in_peace(micro_model, edit):
    def run(self, model):
        part = model.parts["vision"].clone()
        edit(part)
        return PassResult(model.with_parts(vision=part), True)

    assert make(run)(micro_model).changed


def test_a_pass_that_says_changed_and_did_nothing(micro_model):
    with pytest.raises(JobFault, match=r"EV501.*very graphs"):
        make(lambda self, model: PassResult(model, True))(micro_model)


def test_a_pass_that_hides_its_change_is_not_let_past_the_check(micro_model):
    run = lambda self, model: PassResult(model.clone(), False)  # noqa: E731
    with pytest.raises(JobFault, match=r"EV501.*other graphs"):
        make(run)(micro_model)
    smaller = micro_model.contract.model_copy(update={"kv_capacity": 19})
    run = lambda self, model: PassResult(model.with_parts(smaller), False)  # noqa: E731
    with pytest.raises(JobFault, match="EV501"):
        make(run)(micro_model)


def test_conditions_run_in_order_and_only_where_they_matter(micro_model):
    calls, changes = [], [False]

    def run(self, model):
        calls.append("run")
        return PassResult(model.clone() if changes[0] else model, changes[0])

    made = make(
        run,
        requires=lambda self, model: calls.append("requires"),
        ensures=lambda self, before, after: calls.append(("ensures", before is not after)),
    )
    made(micro_model)
    changes[0] = True
    made(micro_model)
    assert calls == ["requires", "run", "requires", "run", ("ensures", True)]


def test_what_requires_raises_stops_it_before_it_runs(micro_model):
    def requires(self, model):
        raise UsageFault("EV203", "a", "b", "c")

    made = make(lambda self, model: pytest.fail("ran"), requires=requires)
    with pytest.raises(UsageFault, match="EV203"):
        made(micro_model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep": 0}, ("'keep'", "greater than or equal to 1", "given: 0")),
        ({"keep": 10}, ("'keep'", "less than or equal to 9")),
        ({"keep": "four"}, ("'keep'", "valid integer", "'four'")),
        ({"keep": "4"}, ("'keep'", "valid integer")),
        ({"keep": True}, ("'keep'", "valid integer")),
        ({"keep": 4.0}, ("'keep'", "valid integer")),
        ({"deep": "yes"}, ("'deep'", "valid boolean")),
        ({"ratio": [1]}, ("'ratio'", "valid number")),
        ({"kep": 4}, ("'kep'", "not permitted")),
        ({"self": 4}, ("'self'", "not permitted")),
        ({"model_config": 4}, ("'model_config'", "not permitted")),
    ],
    ids=str,
)
def test_an_option_that_is_wrong_is_named_with_its_value(options, words):
    with pytest.raises(UsageFault) as caught:
        Idle(**options)
    assert caught.value.code == "EV202" and caught.value.exit_status == 2
    text = f"{caught.value.what} {caught.value.why}"
    assert all(word in text for word in words), text
    assert "idle" in caught.value.fix


def test_options_have_defaults_and_cannot_be_edited():
    made = Idle(keep=5, ratio=1)
    assert made.options == Options(keep=5, ratio=1.0) and Idle().options.keep == 4
    with pytest.raises(Exception, match="frozen"):
        made.options.keep = 6
