"""--tokens, --prune and --prune-at become steps: shares, several sites, falls, what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.forms import FORMS, why_not
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.schedule import DEFAULTS, parse_asked
from edgevlm.passes.tokens.sites import parse_site


@pytest.fixture(scope="module")
def model(make_micro):
    """36 tokens, 3 vision blocks, 6 layers."""
    return make_micro(layers=6, grid=(6, 6), tower=3)


@pytest.fixture
def steps(model):
    def of(tokens, prune=None, at=None, positions=None, form="ort"):
        asked = parse_asked(tokens, prune, at, positions)
        return [dict(step.options) for step in asked.steps(model, form)]

    return of


def kept(found):
    return [(step["at"], step["keep"]) for step in found]


def refused(code, tokens, prune=None, at=None, positions=None):
    with pytest.raises(UsageFault) as caught:
        parse_asked(tokens, prune, at, positions)
    assert caught.value.code == code and caught.value.exit_status == 2
    return caught.value


def test_one_number_at_the_methods_own_site(steps):
    assert steps("9", "dart") == [{"keep": 9, "method": "dart", "at": "connector-out"}]


@pytest.mark.parametrize(
    ("text", "keep"),
    [("25%", 9), ("100%", 36), ("50%", 18), ("12.5%", 4), ("6.25%", 2), ("0.1%", 1), ("36", 36)],
)
def test_a_share_is_of_all_tokens_and_at_least_one(steps, text, keep):
    assert kept(steps(text, "dart")) == [("connector-out", keep)]


def test_nothing_at_all_is_no_budget_where_nobody_said_how(steps):
    with pytest.raises(UsageFault, match="EV203"):
        steps("0")
    assert kept(steps("0", None, "llm:2")) == [("llm:2", 0)]


def methods(found):
    return list(dict.fromkeys(step["method"] for step in found))


def test_where_no_method_is_named_one_is_found_for_the_sites(steps):
    """None is worse than chance there: docs/measurements.md, "Where no method is named"."""
    assert methods(steps("9")) == methods(steps("9", None, "llm:2")) == ["fastv"]
    assert {name for names in DEFAULTS.values() for name in names} <= set(METHODS)
    for at in ("connector-out", "vision-out", "vision:1", "vision:1,connector-out,llm:1"):
        (name,) = methods(steps("9", None, at))
        assert {parse_site(text).kind for text in at.split(",")} <= set(METHODS[name].sites)


def test_where_nothing_lies_behind_a_layer(make_micro):
    """A decoder of one layer, and llm:0: nobody has looked at a token there yet."""
    one = make_micro(layers=1, grid=(6, 6), tower=3)
    for at, where in ((None, "connector-out"), ("llm:0", "llm:0")):
        (step,) = parse_asked("25%", None, at).steps(one, "ort")
        assert (step.options["method"], step.options["at"]) == ("apet", where)
        assert KeepTokens(**step.options)(one).changed


@pytest.mark.parametrize("form", FORMS)
def test_what_no_one_named_runs_on_the_target(model, steps, form):
    for at in (None, "llm:2", "connector-out", "vision-out", "vision:1"):
        (name,) = methods(steps("9", None, at, form=form))
        method = METHODS[name]
        assert not why_not(FORMS[form], method.greedy, method.lowering, 9)
        KeepTokens(**steps("9", None, at, form=form)[0]).requires(model)


@pytest.mark.parametrize("kind", ["classifier", "dense"])
def test_a_plain_vit_needs_no_site(vit, kind):
    """Its own where a method has one inside an encoder, a third of the way through else."""
    plain = vit.plain_vit(kind, blocks=6)
    for prune in (None, "dart", "random:seed=1", "tome", "visionzip"):
        made = plain
        for step in parse_asked("9", prune, None).steps(plain, "ort"):
            made = KeepTokens(**step.options)(made).model
        assert made.contract.given_tokens == made.contract.kept_image_tokens == 9
    (step,) = parse_asked("9", None, "vision:2").steps(plain, "ort")
    assert step.options["method"] == "tome"
    (step,) = parse_asked("9", "dart", None).steps(plain, "ort")
    assert step.options["at"] == "vision:2"
    with pytest.raises(UsageFault, match="EV209"):
        KeepTokens(**parse_asked("9", "zoo", None).steps(plain, "ort")[0].options)(plain)


@pytest.mark.parametrize("separator", [",", "+", ", "])
def test_a_budget_a_site(steps, separator):
    found = steps(separator.join(("50%", "9", "3")), None, "vision:1, vision-out,llm:2")
    assert kept(found) == [("vision:1", 18), ("vision-out", 9), ("llm:2", 3)]


def test_one_number_at_several_sites_falls_by_equal_factors(steps):
    assert kept(steps("4", None, "vision:1,connector-out")) == [
        ("vision:1", 12), ("connector-out", 4),
    ]  # fmt: skip
    assert [k for _, k in kept(steps("1", None, "llm:1,llm:3"))] == [6, 1]


def test_the_sites_of_a_method_that_has_several(steps):
    """V2Drop: three of its layers, one number, three falls."""
    found = steps("25%", "v2drop")
    assert [step["at"] for step in found] == ["llm:1", "llm:3", "llm:4"]
    budgets = [step["keep"] for step in found]
    assert budgets == sorted(budgets, reverse=True) and budgets[-1] == 9


def test_none_at_all_is_possible_in_the_language_model_only(steps):
    assert kept(steps("9,0", None, "llm:1,llm:3")) == [("llm:1", 9), ("llm:3", 0)]
    assert kept(steps("0", "horizon", "llm:3")) == [("llm:3", 0)]
    with pytest.raises(UsageFault, match="EV203"):
        steps("0", None, "llm:1,llm:3")  # one number for two sites: no factor leads to nothing


def test_options_positions_and_forms_are_in_the_step(steps):
    assert steps("9", "dart:pivots=2", "llm:0", "run-end-pad", "tensorrt") == [
        {
            "keep": 9, "method": "dart", "at": "llm:0", "options": {"pivots": 2},
            "position": "run-end-pad", "form": "tensorrt",
        }
    ]  # fmt: skip


def test_options_that_were_not_given_are_not_frozen_into_the_recipe(steps):
    assert "options" not in steps("9", "dart")[0]
    assert steps("9", "score:alpha=1.5", "vision-out")[0]["options"] == {"alpha": 1.5}


def test_nothing_asked_is_nothing():
    assert parse_asked(None, None, None, None) is None


@pytest.mark.parametrize(
    "text", ["", "many", "-1", "1.5", "1e3", "25 %", "%", "25%%", "16,", ",16", "16;8", "9" * 9]
)
def test_a_budget_that_is_none(text):
    assert "a number or a share" in refused("EV203", text).why


@pytest.mark.parametrize("text", ["0%", "100.1%", "101%", "999%", "37", "0", "9999999"])
def test_a_budget_that_the_model_cannot_have(steps, model, text):
    with pytest.raises(UsageFault) as caught:
        for step in steps(text, "dart"):
            KeepTokens(**step)(model)
    assert caught.value.code == "EV203" and "1 to 36" in caught.value.why


@pytest.mark.parametrize(("tokens", "at"), [("9,4", None), ("9,4,2", "llm:1,llm:3")])
def test_as_many_budgets_as_sites_or_one(steps, tokens, at):
    with pytest.raises(UsageFault) as caught:
        steps(tokens, None, at)
    count = len(tokens.split(","))
    assert caught.value.code == "EV203" and f"{count} budgets for" in caught.value.what


@pytest.mark.parametrize(
    "at", ["llm:2,vision:1", "llm:3,llm:2", "connector-out,vision-out", "llm:1,llm:1"]
)
def test_sites_out_of_order_are_told_the_order(at):
    fault = refused("EV205", "9", None, at)
    wanted = sorted({parse_site(text) for text in at.split(",")})
    assert fault.fix == f"--prune-at {','.join(map(str, wanted))}"


@pytest.mark.parametrize(
    ("prune", "code", "said"),
    [
        ("drat", "EV201", "dart"),
        ("", "EV201", "the nearest"),
        ("dart:", None, ""),
        ("dart:pivot=2", "EV202", "its options: pivots"),
        ("dart:pivots", "EV202", "'pivots' is not option=value"),
        ("dart:pivots=", "EV202", "is not option=value"),
        ("dart:=2", "EV202", "is not option=value"),
        ("dart:pivots=0", "EV202", "greater than or equal to 1"),
        ("dart:pivots=two", "EV202", "valid integer"),
        ("dart:pivots=2,pivots=3", None, ""),
        ("stride:x=1", "EV202", "its options: none"),
        ("score:alpha=nan", "EV202", ""),
    ],
)
def test_a_method_and_its_options(prune, code, said):
    if code is None:
        assert parse_asked("9", prune, None).method == "dart"
    else:
        assert said in refused(code, "9", prune).why


@pytest.mark.parametrize("at", ["", " ", "llm:1,", "llm"])
def test_a_site_that_is_none(at):
    assert "no site is called" in refused("EV209", "9", None, at).what


@pytest.mark.parametrize("how", [{"prune": "dart"}, {"at": "llm:1"}, {"positions": "renumber"}])
def test_what_would_do_nothing_without_a_budget(how):
    fault = refused("EV220", None, **how)
    assert "without --tokens" in fault.what and "--tokens 16" in fault.fix


@given(st.integers(1, 2000), st.data())
def test_any_budget_falls_from_site_to_site_and_ends_at_what_was_asked(count, data):
    from edgevlm.passes.tokens.methods import METHODS

    keep = data.draw(st.integers(1, count))
    sites = [parse_site(f"llm:{i}") for i in range(data.draw(st.integers(1, 6)))]
    found = METHODS["dart"]().budgets(count, keep, sites)
    assert len(found) == len(sites) and found[-1] == keep
    assert found == sorted(found, reverse=True) and found[0] <= count
