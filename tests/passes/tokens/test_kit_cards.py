"""Every method says what it is: a card, options with their meaning, evidence, sites, a way out."""

from __future__ import annotations

import inspect
import re
import sys

import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.passes import PASSES, make_passes
from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.methods import METHODS, find_method
from edgevlm.passes.tokens.sites import KINDS

EACH = pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)


@EACH
def test_a_method_says_what_it_is(cls):
    assert issubclass(cls, Method) and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cls.name)
    assert 10 < len(cls.summary) <= 90 and not cls.summary.endswith(".")
    assert cls.paper is None or re.fullmatch(r"\d{4}\.\d{4,5}", cls.paper)
    assert cls.evidence in ("C", "N", "R") and cls.lowering in ("A", "B", "C", "D", "E")
    assert cls.permutation in ("equivariant", "grid", "order")
    assert set(cls.sites) <= set(KINDS) and len(set(cls.sites)) == len(cls.sites)
    assert cls.sites or cls.as_pass in PASSES, "neither a site nor a pass of its own"
    assert cls.name not in PASSES, "`passes show` could not tell them apart"


@EACH
def test_its_file_is_short_and_its_docstring_is_a_card(cls):
    module = sys.modules[cls.__module__]
    card, source = module.__doc__, inspect.getsource(module)
    assert len(source.splitlines()) < 250 and len(card.split()) > 40
    assert cls.paper is None or cls.paper in card
    assert cls.__name__ in module.__all__
    assert "import torch" not in source and "edgevlm.models" not in source


@EACH
def test_its_options_have_a_meaning_and_a_default_and_are_strict(cls):
    made = cls()
    for name, field in cls.Options.model_fields.items():
        assert field.description, f"{name} says neither unit nor range"
    with pytest.raises(UsageFault) as caught:
        cls(colour="red")
    assert caught.value.code == "EV202" and cls.name in caught.value.fix
    with pytest.raises(Exception, match="frozen"):
        made.options.colour = 1


@EACH
def test_its_options_survive_a_command_line_and_a_recipe(cls):
    """As text they mean what they mean as numbers, and TOML brings them back."""
    made = cls()
    said = {k: v for k, v in made.options.model_dump(mode="json").items() if v is not None}
    as_text = {k: str(v) for k, v in said.items() if isinstance(v, str | int | float)}
    assert cls(**as_text).options == made.options
    if cls.as_pass is None:
        options = {"keep": 4, "method": cls.name, "at": f"{cls.sites[0]}", "options": said}
        options["at"] += ":1" if cls.sites[0] in ("llm", "vision") else ""
        recipe = Recipe("cpu", (Step("keep-tokens", options),))
        again = make_passes(Recipe.from_toml(recipe.to_toml()))
        assert again[0].method.options == made.options


@EACH
def test_its_stand_in_is_a_method_for_targets_that_cannot_run_it(cls):
    if cls.stand_in is not None:
        other = find_method(cls.stand_in)
        assert other is not cls and not other.greedy and other.lowering in "AB"
    assert cls.stand_in is not None or not (cls.greedy or cls.lowering in "DE")


@EACH
def test_its_default_sites_are_in_order_and_among_those_it_declares(cls):
    for layers, blocks in ((1, 1), (3, 3), (4, 4), (24, 12), (32, 24)):
        if layers == 1 and "llm" in cls.sites and len(cls.sites) == 1:
            continue  # a model of one layer has no place behind a layer
        sites = cls().default_sites(layers, blocks)
        assert sites == sorted(set(sites)) and (sites or cls.as_pass)
        for site in sites:
            assert site.kind in cls.sites
            assert site.kind != "llm" or site.depth < layers
            assert site.kind != "vision" or site.depth <= blocks


@EACH
def test_budgets_of_one_number_fall_to_it(cls):
    sites = cls().default_sites(32, 24)
    for count, keep in ((576, 64), (576, 575), (20, 1), (144, 36)):
        found = cls().budgets(count, keep, sites) if sites else []
        assert len(found) == len(sites)
        if found and cls.restore == "none":
            assert found == sorted(found, reverse=True) and max(found) <= count
            assert min(found) >= 1 or sites[-1].kind == "llm"


def test_nothing_is_registered_twice_or_under_another_name():
    assert all(name == cls.name for name, cls in METHODS.items())
    assert len(set(METHODS.values())) == len(METHODS)


@pytest.mark.parametrize("wrong", ["dort", "fast-v", "", "x" * 500])
def test_an_unknown_method_is_told_its_neighbours(wrong):
    with pytest.raises(UsageFault) as caught:
        find_method(wrong)
    assert caught.value.code == "EV201" and "dart" in caught.value.why
    assert len(caught.value.what) < 130
