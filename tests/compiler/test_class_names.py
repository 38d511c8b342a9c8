"""Names of classes: spellings that are one name, and every way of naming them wrongly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.class_names import chosen, find, nearest, plain
from edgevlm.compiler.errors import UsageFault

NAMES = ("t-shirt", "trouser", "Ankle boot", "bag", "crane", "tabby, tabby cat", "crane, heavy")


@pytest.mark.parametrize("asked", ["ankle-boot", "ANKLE_BOOT", " Ankle  boot ", "ankle - boot"])
def test_spellings_of_one_name(asked):
    assert find(NAMES, asked) == (2,) and plain(asked) == "ankle boot"


def test_the_order_is_that_of_the_model():
    assert chosen(NAMES, "bag, T-Shirt,trouser") == (0, 1, 3)
    assert chosen(NAMES, ["bag", "t shirt"]) == (0, 3)


def test_synonyms_will_do_and_the_whole_name_goes_first():
    assert find(NAMES, "tabby cat") == find(NAMES, "tabby, tabby cat") == (5,)
    assert find(NAMES, "crane") == (4,)  # not the other, of which it is a synonym
    assert chosen(NAMES, "tabby, tabby cat,bag") == (3, 5)  # a whole name, split at its comma


def test_parts_of_a_name_are_no_name():
    assert find(NAMES, "boot") == find(NAMES, "shirt") == find(NAMES, "") == ()


@pytest.mark.parametrize(
    ("asked", "said", "fix"),
    [
        ("bag,trousers", "no class 'trousers'; the nearest: trouser", "did you mean trouser?"),
        ("bag,ankel boot", "the nearest: Ankle boot", "Ankle boot"),
        ("bag,zzzz", "no class 'zzzz'", "its classes are t-shirt, trouser"),
        ("bag,,crane", "no class ''", "its classes are"),
        ("", "no class ''", "its classes are"),
        ("bag,BAG", "'BAG' is there twice", "once"),
        ("bag", "two classes are the least", "--classes bag,t-shirt"),
        ("tabby,tabby cat", "two classes are the least", "--classes"),
        ([], "two classes are the least", "--classes t-shirt,trouser"),
    ],
)
def test_what_is_refused(asked, said, fix):
    with pytest.raises(UsageFault) as caught:
        chosen(NAMES, asked)
    fault = caught.value
    assert fault.code == "EV135" and said in fault.why and fix in fault.fix, fault.lines()
    assert fault.what.startswith("--classes")


def test_a_name_of_two_classes_is_not_guessed():
    with pytest.raises(UsageFault, match="2 classes are called 'crane': numbers 0, 2"):
        chosen(("crane", "bag", "Crane"), "crane,bag")


def test_a_model_without_names():
    with pytest.raises(UsageFault, match="no class names"):
        chosen((), "a,b")


def test_all_classes_where_they_may_be():
    assert chosen(("a", "b"), "b,a") == (0, 1)
    with pytest.raises(UsageFault, match="all 2 classes"):
        chosen(("a", "b"), "b,a", all_allowed=False)


def test_a_long_list_is_cut_in_the_fault():
    with pytest.raises(UsageFault) as caught:
        chosen([f"class {i}" for i in range(1000)], "?,!")
    assert "and 990 more" in caught.value.fix and "class 10," not in caught.value.fix


def test_nearest_gives_names_as_they_are_written():
    assert nearest(NAMES, "ankl_boot") == ["Ankle boot"] and nearest(NAMES, "qqqq") == []


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, unique=True), st.data())
def test_any_choice_comes_back_in_order(names, data):
    wanted = data.draw(st.lists(st.sampled_from(range(len(names))), min_size=2, unique=True))
    assert chosen(names, [f" {names[i].upper()} " for i in wanted]) == tuple(sorted(wanted))
