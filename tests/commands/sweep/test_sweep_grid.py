"""`--over`: how its values are separated, what the grid is made of, and what cannot be read."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.cli import cli
from edgevlm.commands.compile_options import options_of
from edgevlm.commands.sweep_grid import AXES, MAX_POINTS, Point, read_grid
from edgevlm.compiler.errors import UsageFault


def values(*over: str) -> list[str]:
    """The values of one axis."""
    return [value for p in read_grid(over, baseline=False) for _, value in p.options]


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("prune=dart", ["dart"]),
        ("prune=dart,divprune,random:seed=1", ["dart", "divprune", "random:seed=1"]),
        ("prune=random:seed=1,random:seed=2", ["random:seed=1", "random:seed=2"]),
        ("prune=visionzip:contextual=4,width=2", ["visionzip:contextual=4,width=2"]),
        ("prune=zip:a=4,b=2,c=3,dart,tome:r=8", ["zip:a=4,b=2,c=3", "dart", "tome:r=8"]),
        ("prune=zip:a=4,b=2;dart", ["zip:a=4,b=2", "dart"]),
        ("prune= dart , stride ", ["dart", "stride"]),
        ("tokens=50%,25%", ["50%", "25%"]),
        ("tokens=50%+25%", ["50%,25%"]),
        ("tokens=50%+25%,25%+10%", ["50%,25%", "25%,10%"]),
        ("tokens=50%,25%;25%,10%", ["50%,25%", "25%,10%"]),
        ("tokens=64;", None),
        ("prune-at=vision-out,llm:2+llm:16", ["vision-out", "llm:2,llm:16"]),
        ("prune-at=vision-out;llm:2,llm:16", ["vision-out", "llm:2,llm:16"]),
        ("quant=none,w8", ["none", "w8"]),
        ("kv=float,int8", ["float", "int8"]),
        ("tokens=16,8,16", ["16", "8"]),
    ],
)
def test_how_values_are_separated(over, expected):
    if expected is None:
        with pytest.raises(UsageFault, match="a value is empty"):
            values(over)
    else:
        assert values(over) == expected


def test_an_axis_given_twice_gets_more_values():
    assert values("tokens=16", "tokens=8,16") == ["16", "8"]


NAME = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
OPTION = st.tuples(NAME, st.from_regex(r"[a-z0-9.]{1,4}", fullmatch=True)).map("=".join)
METHOD = st.tuples(NAME, st.lists(OPTION, max_size=3, unique_by=lambda o: o.split("=")[0])).map(
    lambda m: f"{m[0]}:{','.join(m[1])}" if m[1] else m[0]
)


@given(st.lists(METHOD, min_size=1, max_size=5, unique=True), st.sampled_from(",;"))
def test_any_methods_come_back_as_they_were(methods, separator):
    if separator == ";" and len(methods) == 1:
        separator = ","  # one value holds no separator of its own
    assert values("prune=" + separator.join(methods)) == methods


def test_the_grid_is_the_product_in_order_with_the_baseline_first():
    points = read_grid(["prune=dart,stride", "tokens=16,8"])
    assert [p.name for p in points] == [
        "baseline",
        "prune=dart tokens=16",
        "prune=dart tokens=8",
        "prune=stride tokens=16",
        "prune=stride tokens=8",
    ]
    assert [p.baseline for p in points] == [True, False, False, False, False]
    assert points[1].keywords == {"prune": "dart", "tokens": "16"}
    assert len(read_grid(["prune=dart,stride", "tokens=16,8"], baseline=False)) == 4


def test_the_baseline_has_the_first_value_of_what_is_no_token_reduction():
    points = read_grid(["quant=w8,none", "tokens=16", "max-prompt=20,30"])
    assert points[0].name == "baseline quant=w8 max-prompt=20" and len(points) == 5
    assert points[0].keywords == {"quant": "w8", "max_prompt": 20}


def test_a_point_that_is_the_baseline_does_not_come_twice():
    assert [p.name for p in read_grid(["quant=none,w8"])] == ["baseline quant=none", "quant=w8"]


@pytest.mark.parametrize(
    ("over", "said", "fix"),
    [
        ("prun=dart", "'prun' is nothing to sweep over", "did you mean --over prune=dart?"),
        ("token=16", "'token' is nothing", "did you mean --over tokens=16?"),
        ("colour=red", "'colour' is nothing", "edgevlm sweep MODEL"),
        ("", "'' is nothing", "edgevlm sweep MODEL"),
        ("tokens", "a value is empty", "--over tokens=VALUE"),
        ("tokens=", "a value is empty", "--over tokens=VALUE"),
        ("tokens=16,,8", "a value is empty", "--over tokens=VALUE"),
        ("prune=dart,width=2", "width=2 is an option of no method", "--over prune=dart:width=2"),
        ("prune=width=2", "width=2 is an option of no method", "--over prune=METHOD:width=2"),
        ("prune=random:seed=1,seed=2", "random is given seed twice", "random:seed=1,random:seed=2"),
        ("max-prompt=abc", "'abc': it is no number of tokens", "--over max-prompt=VALUE"),
        ("max-answer=0", "from 1 to 8192", "--over max-answer=VALUE"),
        ("min-sqnr=loud", "it is no number of dB", "--over min-sqnr=VALUE"),
    ],
)
def test_what_cannot_be_read(over, said, fix):
    with pytest.raises(UsageFault) as caught:
        read_grid([over])
    text = " ".join(caught.value.lines())
    assert caught.value.code == "EV221" and said in text and fix in caught.value.fix


def test_a_sweep_over_nothing_and_one_that_never_ends():
    with pytest.raises(UsageFault, match="EV221 a sweep over nothing"):
        read_grid([])
    many = "tokens=" + ",".join(map(str, range(1, MAX_POINTS + 2)))
    with pytest.raises(UsageFault, match=f"EV221 a sweep of {MAX_POINTS + 1} points"):
        read_grid([many])


@given(st.lists(st.tuples(st.sampled_from(list(AXES)), st.text(max_size=80)), max_size=4))
def test_a_slug_is_a_plain_file_name(options):
    slug = Point(tuple(options)).slug
    assert re.fullmatch(r"[A-Za-z0-9.-]{1,70}", slug) and not slug.startswith(".")


@given(st.lists(st.lists(st.text(max_size=3), max_size=3).map(tuple), unique=True, max_size=20))
def test_no_two_points_share_a_slug(texts):
    """Names that look the same once they are made plain, too."""
    points = [Point(tuple(("prune", t) for t in text), b) for text in texts for b in (True, False)]
    assert len({p.slug for p in points}) == len(points)


def test_a_slug_is_the_same_in_every_version():
    """A resumed sweep looks for its bundles by it."""
    assert Point((("prune", "dart"), ("tokens", "25%"))).slug == "prune-dart-tokens-25pc-e1163059"


def test_every_axis_is_an_option_of_compile():
    keywords = inspect.signature(options_of).parameters
    flags = {flag for o in cli.commands["compile"].params for flag in o.opts}
    for key, axis in AXES.items():
        assert axis.keyword in keywords and f"--{key}" in flags


def test_the_help_names_every_axis(edgevlm):
    text = " ".join(edgevlm("sweep", "--help").out.split())
    assert "Keys of --over: " + ", ".join(AXES) + " Options:" in text
