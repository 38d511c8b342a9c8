"""Numbers and strangers' text on a page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from edgevlm.devices.report.words import (
    MOST,
    call,
    clean,
    decibel,
    figure,
    label,
    of_how,
    percent,
    printed,
    short,
)


@pytest.mark.parametrize(
    ("value", "said"),
    [(3.1154, "3.12"), (0.5, "0.500"), (12.345, "12.3"), (485.33, "485"), (1810.4, "1,810"),
     (0, "0"), (None, "–"), (0.0123, "0.012"), (0.00001, "<0.001"), (-0.00001, "0"),
     (-0.25, "-0.250")],
)  # fmt: skip
def test_figures_have_three_digits_that_count(value, said):
    assert figure(value) == said


def test_shares_and_decibels():
    assert (percent(0.9617), percent(None), percent(1)) == ("96.2", "–", "100.0")
    assert (decibel(200.0), decibel(36.94), decibel(None)) == ("exact", "36.9", "–")


@given(st.text(max_size=200))
def test_no_character_that_hides_or_turns_the_line_is_left(text):
    assert all(c.isprintable() or c == "\n" for c in clean(text))


def test_what_is_hidden_is_shown_as_its_escape():
    assert clean("a\u202eb\x00\x1b[2J\u200b") == "a\\u202eb\\x00\\x1b[2J\\u200b"
    assert clean("eine Straße, 猫, two\nlines") == "eine Straße, 猫, two\nlines"


def test_text_ends_somewhere():
    assert len(clean("x" * 10**6)) == MOST + 1 and clean("x" * 10**6).endswith("…")
    assert printed("\u202e" + "x" * 10**6) == "\\u202e" + "x" * (MOST - 1) + "…"


def test_markup_of_ours_and_numbers_are_left_alone():
    assert printed(Markup("<b>\u202e</b>")) == "<b>\u202e</b>" and printed(7) == 7


@given(st.text(max_size=60), st.integers(5, 30))
def test_a_shortened_name_keeps_both_ends(text, most):
    told = short(text, most)
    assert len(told) <= most
    if len(text) > most:
        assert told[0] == text[0] and told[-1] == text[-1] and "…" in told
    else:
        assert told == text


def test_labels_in_words():
    assert of_how("measured-device") == "measured on the device"
    assert of_how("estimated-vela") == "estimated by vela"
    assert of_how("predicted") == "predicted" and of_how(None) == "not said how"
    assert [label(h) for h in ("measured-host", "predicted", "estimated-vela", None)] == [
        "sure", "guess", "guess", "guess",
    ]  # fmt: skip


def test_a_command_can_be_pasted():
    assert call("profile", "a b; rm x", "--ops") == "edgevlm profile 'a b; rm x' --ops"
