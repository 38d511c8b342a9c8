"""Which pictures tell how good a derived classifier is: every fifth of a class, seen by nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from micro.chooser import NAMES, micro_chooser

from edgevlm.commands.derived import split_pictures, with_probes_of
from edgevlm.compiler.beside import Probe
from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.derive.asked import Derived

MODEL = micro_chooser()
GREY = np.zeros((2, 2, 3), np.uint8)


def shown(answers):
    """A probe for each answer; the question is its number."""
    return [Probe(image=GREY, question=str(i), answer=a) for i, a in enumerate(answers)]


def numbers(probes):
    return [int(p.question) for p in probes]


@given(st.lists(st.sampled_from([*NAMES, None]), max_size=90), st.randoms())
def test_every_fifth_of_each_class_is_held_out(answers, random):
    answers += [name for name in ("bee", "fox") for _ in range(5)]
    random.shuffle(answers)
    split = split_pictures(shown(answers), Derived(classes=("FOX", "bee")), MODEL)
    wanted = []
    for name in ("bee", "fox"):
        wanted += [i for i, a in enumerate(answers) if a == name][4::5]
    mine = [i for i, a in enumerate(answers) if a in ("bee", "fox")]
    assert numbers(split.held) == sorted(wanted)
    assert sorted(numbers(split.fit) + numbers(split.held)) == mine
    assert {p.answer for p in split.held} == {"bee", "fox"}


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_class_of_fewer_than_five(count):
    with pytest.raises(UsageFault) as caught:
        split_pictures(shown(["bee"] * 9 + ["fox"] * count), Derived(("bee", "fox")), MODEL)
    assert caught.value.code == "EV139" and caught.value.what.startswith("fox: fewer than 5")


def test_all_classes_take_pictures_of_all():
    split = split_pictures(shown([n for n in NAMES for _ in range(5)]), Derived(alpha=0.5), MODEL)
    assert numbers(split.held) == [4, 9, 14, 19, 24, 29]
    with pytest.raises(UsageFault) as caught:
        split_pictures(shown(["ape"] * 5), Derived(alpha=0.5), MODEL)
    assert "and 2 more" in caught.value.what


def test_nothing_is_held_out_where_nothing_is_derived():
    probes = shown(["ape"] * 7)
    assert split_pictures(probes, None, MODEL).fit == tuple(probes)
    bare = shown([None] * 7)
    split = split_pictures(bare, Derived(alpha=0.5), MODEL)
    assert (split.fit, split.held) == (tuple(bare), ())


def test_probes_of_other_classes_are_left_out():
    answers = [p.answer for p in MODEL.probes]
    mine = tuple(sorted(set(answers)))[:2]
    got = with_probes_of(MODEL, Derived(classes=mine)).probes
    assert [p.answer for p in got] == [a for a in answers if a in mine]
    absent = tuple(n for n in NAMES if n not in answers)[:2]
    if len(absent) == 2:  # none shows them: all are better than none
        assert with_probes_of(MODEL, Derived(classes=absent)).probes == MODEL.probes
    assert with_probes_of(MODEL, Derived(alpha=0.5)) is MODEL
