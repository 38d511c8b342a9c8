"""Every pass is complete, every pipeline is sound, and a wrong recipe is refused by name."""

from __future__ import annotations

import inspect
import re
import sys

import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.pass_base import Effect, Pass
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.passes import PASSES, find_pass, make_passes
from edgevlm.passes.pipelines import PIPELINES, Flags, compose
from edgevlm.passes.quantize.asked import KV_TYPES, QUANT_SCHEMES, quant_steps
from edgevlm.passes.quantize.forms import find_integer_form
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.runtimes import RUNTIMES

EACH = pytest.mark.parametrize("cls", PASSES.values(), ids=PASSES)
#: options of the passes that need some
NEEDED = {"keep-tokens": {"keep": 4}, "resize-image": {"tokens": 4}}


def refused(call, code):
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.code == code and caught.value.exit_status == 2
    return caught.value


@EACH
def test_a_pass_says_what_it_is(cls):
    assert issubclass(cls, Pass) and isinstance(cls.effect, Effect)
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", cls.name)
    assert 10 < len(cls.summary) <= 80 and not cls.summary.endswith(".")
    assert cls.paper is None or re.fullmatch(r"\d{4}\.\d{4,5}", cls.paper)
    assert set(cls.after) <= set(PASSES) and cls.name not in cls.after


@EACH
def test_its_file_begins_with_a_card(cls):
    """One sentence, a before-and-after drawing, assumptions or refusals, the expected effect."""
    card = sys.modules[cls.__module__].__doc__
    first = card.splitlines()[0]
    assert first.endswith((".", ":")) or "\n\n" in card.split(".")[0] + "."
    assert "before:" in card and "after:" in card
    assert "xpected effect" in " ".join(card.split())
    assert cls.paper is None or cls.paper in card


@EACH
def test_it_lives_in_a_file_of_its_name_with_one_idea(cls):
    path = inspect.getsourcefile(cls)
    assert path.endswith(f"/{cls.name.replace('-', '_')}.py")
    assert len(inspect.getsource(sys.modules[cls.__module__]).splitlines()) < 250


@EACH
def test_its_options_are_documented_and_survive_toml(cls):
    made = cls(**NEEDED.get(cls.name, {}))
    for name, field in cls.Options.model_fields.items():
        assert field.description, f"{name} says neither unit nor range"
    options = made.options.model_dump(mode="json")
    again = make_passes(Recipe.from_toml(Recipe("cpu", (Step(cls.name, options),)).to_toml()))
    assert [type(p) for p in again] == [cls] and again[0].options == made.options


@EACH
def test_an_unknown_option_is_refused_by_name(cls):
    options = NEEDED.get(cls.name, {}) | {"colour": 1}
    call = lambda: make_passes(Recipe("cpu", (Step(cls.name, options),)))  # noqa: E731
    assert "colour" in refused(call, "EV202").what


def test_pipelines_name_passes_that_exist_each_once_with_a_reason():
    assert set(PIPELINES) <= set(RUNTIMES)
    for groups in PIPELINES.values():
        names = [name for group in groups for name in group.passes]
        assert set(names) <= set(PASSES) and len(names) == len(set(names))
        assert all(len(group.why) > 10 for group in groups)


@pytest.mark.parametrize("runtime", PIPELINES)
def test_pipelines_keep_the_order_that_passes_ask_for(runtime):
    names = [name for group in PIPELINES[runtime] for name in group.passes]
    for place, name in enumerate(names):
        late = set(PASSES[name].after) & set(names[place:])
        assert not late, f"{name} must come after {late}"


@pytest.mark.parametrize("runtime", PIPELINES)
@pytest.mark.parametrize("tokens", [None, "4"])
@pytest.mark.parametrize("quant", QUANT_SCHEMES)
@pytest.mark.parametrize("kv", KV_TYPES)
def test_every_set_of_flags_gives_a_recipe_that_can_be_made(
    micro_model, runtime, tokens, quant, kv
):
    asked = parse_asked(tokens, tokens and "stride", None)
    recipe = compose("cpu", runtime, Flags(asked, quant, kv), micro_model)
    names = [step.name for step in recipe.steps]
    assert ("keep-tokens" in names) == (tokens is not None)
    wanted = quant_steps(quant, find_integer_form(runtime).block) + KV_TYPES[kv]
    every = {s.name for f in (QUANT_SCHEMES, KV_TYPES) for steps in f.values() for s in steps}
    if runtime != "ort":  # what it runs in integers is told in the recipe
        told, rows = {"form": runtime}, find_integer_form(runtime).rows
        formed = {"quantize-activations"} | ({"quantize-dynamically"} if rows else set())
        wanted = tuple(Step(s.name, s.options | told) if s.name in formed else s for s in wanted)
    assert tuple(step for step in recipe.steps if step.name in every) == wanted
    assert [p.name for p in make_passes(recipe)] == names
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    if tokens:
        options = next(s.options for s in recipe.steps if s.name == "keep-tokens")
        told = {} if runtime == "ort" else {"form": runtime}
        assert options == {"keep": 4, "method": "stride", "at": "connector-out", **told}


def test_an_unknown_scheme():
    assert "w2" in refused(lambda: compose("cpu", "ort", Flags(quant="w2")), "EV202").what
    fault = refused(lambda: compose("cpu", "ort", Flags(kv="int4")), "EV202")
    assert "int4" in fault.what and "float, int8" in fault.why


@pytest.mark.parametrize("runtime", PIPELINES)
def test_a_schedule_is_a_step_a_site_in_their_order(make_micro, runtime):
    asked = parse_asked("50%,3,1", "dart:pivots=2", "vision:1,connector-out,llm:1", "original")
    recipe = compose("cpu", runtime, Flags(asked), make_micro(layers=2, tower=2))
    steps = [step.options for step in recipe.steps if step.name == "keep-tokens"]
    common = {"method": "dart", "options": {"pivots": 2}}
    if runtime != "ort":  # how selectors are written for another target is told in the recipe
        common |= {"form": runtime}
    assert steps == [
        {"keep": 4, "at": "vision:1", **common},
        {"keep": 3, "at": "connector-out", **common},
        {"keep": 1, "at": "llm:1", **common},
    ]
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_an_unknown_pass_is_told_its_neighbours():
    assert find_pass("drop-dead") is PASSES["drop-dead"]
    fault = refused(lambda: find_pass("drop-ded"), "EV201")
    assert "drop-dead" in fault.why
    assert "fold-constants" in refused(lambda: find_pass("zzz"), "EV201").why
    refused(lambda: make_passes(Recipe("cpu", (Step(""),))), "EV201")


def test_a_recipe_in_the_wrong_order_is_refused_with_both_names():
    steps = (Step("quantize-weights"), Step("keep-tokens", {"keep": 4}))
    fault = refused(lambda: make_passes(Recipe("cpu", steps)), "EV205")
    assert "quantize-weights" in fault.what and "keep-tokens" in fault.fix
    assert len(make_passes(Recipe("cpu", steps[::-1]))) == 2
    assert len(make_passes(Recipe("cpu", steps[:1]))) == 1  # what is not there cannot be late


def test_a_clean_up_may_come_twice():
    steps = tuple(Step(n) for n in ("fold-constants", "drop-dead", "fold-constants", "drop-dead"))
    assert len(make_passes(Recipe("cpu", steps))) == 4


def test_a_layout_is_for_those_who_have_it():
    """Once, and last of all; who has no use for it is told."""
    names = [s.name for s in compose("iphone", "coreml", Flags(layout="channels")).steps]
    assert names.count("channels-first") == 1 and names[-1] == "channels-first"
    assert "channels-first" not in [s.name for s in compose("iphone", "coreml", Flags()).steps]
    for runtime in ("ort", "executorch", "tensorrt"):
        told = refused(lambda r=runtime: compose("d", r, Flags(layout="channels")), "EV220")
        assert "--layout channels" in told.what
