"""Names of sites, their order, and the list that is told where a name is none."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.sites import KINDS, Site, depths, list_sites, parse_site

IN_ORDER = ["vision:0", "vision:1", "vision:12", "vision-out", "connector-out", "llm:0", "llm:31"]


@pytest.mark.parametrize("text", IN_ORDER)
def test_a_name_is_the_site_that_says_it(text):
    assert str(parse_site(text)) == text


def test_sites_stand_in_the_order_in_which_tokens_pass_them():
    for one, other in itertools.pairwise(map(parse_site, IN_ORDER)):
        assert one < other and one != other
    assert [parse_site(t).kind for t in IN_ORDER][::3] == ["vision", "vision-out", "llm"]
    assert KINDS == ("vision", "vision-out", "connector-out", "llm")


WRONG = ["", "llm", "vision", "llm:", "llm:-1", "llm:1.5", "llm:01", "llm:99999", "LLM:1",
         "llm :1", "connector-out:1", "vision-out:2", "connector", "decoder:2", "llm:1\n",
         "llm:\uff11"]  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=repr)
def test_a_name_that_is_none_is_told_what_sites_look_like(text):
    with pytest.raises(UsageFault) as caught:
        parse_site(text)
    assert caught.value.code == "EV209" and caught.value.exit_status == 2
    assert all(kind in caught.value.why for kind in ("vision:B", "vision-out", "llm:L"))


def test_a_name_without_end_is_not_repeated_whole():
    with pytest.raises(UsageFault) as caught:
        parse_site("x" * 10**6)
    assert len(str(caught.value)) < 300


def test_the_sites_of_a_model(tiny_model, micro_model):
    assert list_sites(tiny_model.contract, 4) == [
        "vision:0..4", "vision-out", "connector-out", "llm:0..3",
    ]  # fmt: skip
    assert list_sites(micro_model.contract, None) == ["vision-out", "connector-out", "llm:0..0"]


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("llm:4", "llm:0 to llm:3"),
        ("llm:31", "llm:0 to llm:3"),
        ("vision:5", "vision:0..4"),
        ("vision:99", "vision:0..4"),
    ],
)
def test_a_site_that_a_model_does_not_have_is_told_those_it_has(tiny_model, at, said):
    with pytest.raises(UsageFault) as caught:
        KeepTokens(keep=8, at=at)(tiny_model)
    assert caught.value.code == "EV209" and said in caught.value.why
    assert at in caught.value.what and "--prune-at" in caught.value.fix


def test_an_encoder_without_blocks_has_no_site_inside(micro_model):
    """A mere convolution: behind it tokens may leave, inside it there is nothing."""
    with pytest.raises(UsageFault, match="EV209"):
        KeepTokens(keep=4, at="vision:0")(micro_model)
    assert KeepTokens(keep=4, at="vision-out")(micro_model).changed


@given(st.integers(2, 64), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 1))
def test_shares_of_the_depth_are_layers_each_once(layers, shares, first):
    sites = depths(layers, tuple(sorted(shares)), first)
    assert sites == sorted(set(sites))
    assert all(s.kind == "llm" and first <= s.depth < layers for s in sites)


def test_depths_of_the_papers():
    """V2Drop: 3, 17 and 22 of 32; the same shares of a model of four layers."""
    shares = (3 / 32, 17 / 32, 22 / 32)
    assert [s.depth for s in depths(32, shares)] == [3, 17, 22]
    assert [s.depth for s in depths(4, shares)] == [1, 2, 3]
    assert depths(4, (0.5,)) == [Site.at("llm", 2)]
