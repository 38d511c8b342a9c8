"""`edgevlm passes list|show`, and docs/tokens.md: what there is, told from the classes."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

import edgevlm as package
from edgevlm.commands.method_table import PAGE, page_with_table, table
from edgevlm.commands.methods import EVIDENCE, LOWERING, PERMUTATION
from edgevlm.passes import PASSES, make_passes
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import KINDS

ROOT = Path(package.__file__).parent


def test_the_list_has_every_pass_and_every_method(edgevlm):
    data = edgevlm("passes", "list", "--json").json
    assert [row["name"] for row in data["items"]] == list(PASSES)
    assert [row["name"] for row in data["methods"]] == list(METHODS)
    told = edgevlm("passes", "list").err
    assert told.index("passes") < told.index("token reduction methods")
    for name in (*PASSES, *METHODS):
        assert name in told


@pytest.mark.parametrize("name", METHODS)
def test_the_card_of_every_method(edgevlm, name):
    method = METHODS[name]
    data = edgevlm("passes", "show", name, "--json", "--quiet").json
    assert data["kind"] == "method" and data["sites"] == list(method.sites)
    assert data["evidence"]["words"] == EVIDENCE[method.evidence]
    assert data["lowering"]["words"] == LOWERING[method.lowering]
    assert data["permutation"]["words"] == PERMUTATION[method.permutation]
    assert set(data["forms"]) == set(FORMS) and data["forms"]["ort"] is None
    assert set(data["options"]) == set(method.Options.model_fields)
    for spec in data["options"].values():
        assert spec["description"] and "default" in spec
    example = data["example"]
    assert len(example["budgets"]) == len(example["sites"]) or method.as_pass
    told = edgevlm("passes", "show", name).err
    for line in data["card"].splitlines():
        assert line in told
    for option in data["options"]:
        assert option in told


def test_a_card_says_what_it_runs_on_and_what_stands_in(edgevlm):
    told = edgevlm("passes", "show", "divprune").err
    assert "ort, openvino, tensorrt, coreai, fpga" in told and "not for coreml" in told
    assert "stands in for it" in told and "dart" in told
    assert "stands in" not in edgevlm("passes", "show", "dart").err


def test_ranges_of_options_are_told(edgevlm):
    told = edgevlm("passes", "show", "dart").err
    assert "from 1 to 64" in told
    assert "original, renumber, run-end-pad" in edgevlm("passes", "show", "keep-tokens").err
    assert "it has no options" in edgevlm("passes", "show", "stride").err


def test_where_one_number_goes(edgevlm):
    told = edgevlm("passes", "show", "v2drop").err
    assert re.search(r"--tokens 64 of 576: \d+ at llm:3, \d+ at llm:17, 64 at llm:22", told)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("dartt", "dart"), ("keep-token", "keep-tokens"), ("fast", "fastv"), ("zzzzz", "drop-dead")],
)
def test_an_unknown_name_is_told_the_nearest_of_both(edgevlm, wrong, near):
    ended = edgevlm("passes", "show", wrong)
    assert (ended.status, ended.code) == (2, "EV201") and near in ended.err
    assert len(edgevlm("passes", "show", "x" * 10**4).err) < 1200


def test_the_table_of_methods_in_the_document_is_up_to_date():
    page = PAGE.read_text()
    assert page_with_table(page) == page, "python -m edgevlm.commands.method_table"
    assert table().count("\n") == len(METHODS) + 1
    assert page_with_table(page.replace("| `stride` |", "| `strode` |")) == page


def test_the_document_has_the_words_of_the_code():
    page = PAGE.read_text()
    for kind in ("vision:B", "vision-out", "connector-out", "llm:L"):
        assert f"| `{kind}` |" in page
    assert {k.split(":")[0] for k in ("vision:B", "vision-out", "connector-out", "llm:L")} == set(
        KINDS
    )
    for letter in LOWERING:
        assert re.search(rf"^\| {letter} \| ", page, re.MULTILINE)
    for policy in ("original", "renumber", "run-end-pad"):
        assert f"| `{policy}` |" in page


@pytest.mark.parametrize("name", ["tokens.md", "recipes.md"])
def test_the_recipes_in_the_documents_can_be_made(name):
    text = (ROOT / "docs" / name).read_text()
    recipes = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert recipes
    for recipe in recipes:
        from edgevlm.compiler.recipe import Recipe

        whole = recipe if "schema" in recipe else f'schema = 1\ntarget = "cpu"\n{recipe}'
        made = make_passes(Recipe.from_toml(whole))
        assert len(made) == len(tomllib.loads(whole)["pass"])


def test_the_calls_in_the_document_are_understood():
    """Flags as they are written there: a budget, a method and sites."""
    from edgevlm.passes.tokens.schedule import parse_asked

    calls = re.findall(r"^    edgevlm compile (.*)$", PAGE.read_text(), re.MULTILINE)
    assert len(calls) >= 3
    for call in calls:
        said = dict(pairwise(call.split()))
        asked = parse_asked(said["--tokens"], said.get("--prune"), said.get("--prune-at"))
        assert len(asked.budgets) in (1, len(asked.sites))
