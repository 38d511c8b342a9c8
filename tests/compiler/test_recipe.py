"""A recipe travels as TOML: what is written is what is read, and what is no recipe says why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.recipe import MAX_BYTES, Recipe, Step

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans()
VALUES = st.recursive(
    NUMBERS | TEXT,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(TEXT.filter(lambda key: key != "name"), VALUES, max_size=4)
RECIPES = st.builds(Recipe, TEXT, st.lists(st.builds(Step, TEXT, OPTIONS), max_size=4).map(tuple))


def typed(value):
    """1, 1.0 and True are equal in Python and are not the same option."""
    if isinstance(value, dict):
        return {key: typed(v) for key, v in value.items()}
    return [typed(v) for v in value] if isinstance(value, list) else (type(value), value)


@given(RECIPES)
def test_it_survives_toml(recipe):
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert [typed(s.options) for s in again.steps] == [typed(s.options) for s in recipe.steps]
    assert again.to_toml() == recipe.to_toml()


def test_it_reads_as_the_module_says():
    text = (
        'schema = 1\ntarget = "cpu"\n\n[[pass]]\nname = "keep-tokens"\nkeep = 16\nmethod = "dart"\n'
    )
    recipe = Recipe.from_toml(text)
    assert recipe == Recipe("cpu", (Step("keep-tokens", {"keep": 16, "method": "dart"}),))
    assert recipe.to_toml() == text
    assert Recipe.from_toml('schema = 1\ntarget = "cpu"') == Recipe("cpu", ())


GOOD = 'schema = 1\ntarget = "cpu"\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "schema"),
        ("\0", ""),
        ("schema = 1", "target"),
        ('target = "cpu"', "schema"),
        ('schema = 2\ntarget = "cpu"', "schema must be 1"),
        ('schema = "1"\ntarget = "cpu"', "schema must be 1"),
        ('schema = true\ntarget = "cpu"', "schema must be 1"),
        ('schema = 1.0\ntarget = "cpu"', "schema must be 1"),
        ("schema = 1\ntarget = 5", "strings"),
        (GOOD + "passes = []", "passes"),
        (GOOD + "pass = 5", ""),
        (GOOD + 'pass = "fold"', ""),
        (GOOD + "pass = [5]", ""),
        (GOOD + "[pass]\nname = 'x'", ""),
        (GOOD + "[[pass]]\nkeep = 5", "name"),
        (GOOD + "[[pass]]\nname = 5", "strings"),
        (GOOD + "[[pass]]\nname = ", ""),
        (GOOD + "[[pass]]\nname = 'a'\nname = 'b'", ""),
        (GOOD + "a = " + "[" * 50_000, ""),
        (GOOD + "a = " + "{b = " * 50_000, ""),
        (GOOD + "a = " + "9" * 5000, ""),
    ],
    ids=lambda text: text[-30:],
)
def test_what_is_no_recipe_is_ev205(text, why):
    with pytest.raises(UsageFault) as caught:
        Recipe.from_toml(text, "mine.toml")
    assert caught.value.code == "EV205" and caught.value.exit_status == 2
    assert "mine.toml" in caught.value.what and why in caught.value.why


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_ev205(text):
    for given_text in (text, GOOD + text):
        try:
            assert isinstance(Recipe.from_toml(given_text), Recipe)
        except UsageFault as fault:
            assert fault.code == "EV205"


def test_a_file_is_read_as_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "r.toml"
    path.write_bytes('schema = 1\ntarget = "größe"\n'.encode())
    code = "from pathlib import Path; from edgevlm.compiler.recipe import Recipe; "
    code += f"Recipe.read(Path({str(path)!r}))"
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | plain, check=True)


def test_files_that_cannot_be_read(tmp_path):
    paths = [tmp_path / n for n in ("none", "folder", "latin", "large", "pipe")]
    _, folder, latin, large, pipe = paths
    folder.mkdir()
    latin.write_bytes(b"target = '\xff'")
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    os.mkfifo(pipe)
    for path in paths:
        with pytest.raises(UsageFault) as caught:
            Recipe.read(path)
        assert caught.value.code == "EV205" and path.name in caught.value.what
