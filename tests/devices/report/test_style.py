"""The colours of the page: enough contrast in both schemes, and none that is fixed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgevlm.devices import report

TEMPLATES = Path(report.__file__).parent / "templates"
STYLE = (TEMPLATES / "style.css").read_text()


def colours(dark):
    light, _, rest = STYLE.partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rest)) if dark else found


def luminance(colour):
    """WCAG 2.2, relative luminance of sRGB."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT = [
    *(("ink", ground) for ground in (
        "paper", "raised", "problem-soft", "caution-soft", "bar-soft", "line",
        "op-a", "op-p", "op-n", "op-q", "op-m", "op-e", "op-r",
    )),
    ("quiet", "paper"), ("quiet", "raised"), ("accent", "paper"), ("problem", "problem-soft"),
    ("caution", "caution-soft"), ("caution", "paper"),
]  # fmt: skip
SHAPES = [("bar", "paper"), ("other", "paper"), ("fine", "paper"), ("accent", "paper"),
          ("problem", "paper")]  # fmt: skip


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast_is_enough_in_both_schemes(dark):
    known = colours(dark)
    for text, ground in TEXT:
        assert contrast(known[text], known[ground]) >= 4.5, (text, ground)
    for shape, ground in SHAPES:
        assert contrast(known[shape], known[ground]) >= 3, (shape, ground)


def test_the_formula_of_contrast():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_both_schemes_define_the_same_colours_and_no_other_is_used():
    light, _, rest = STYLE.partition("@media (prefers-color-scheme: dark)")
    names = set(re.findall(r"--([\w-]+):", light))
    assert set(re.findall(r"--([\w-]+):", rest.partition("\n}\n")[0])) == names
    text = "".join(p.read_text() for p in TEMPLATES.iterdir())
    assert set(re.findall(r"var\(--([\w-]+)", text)) <= names
    body = rest.partition("\n}\n")[2]
    assert not re.findall(r"#[0-9a-f]{3,6}\b", body)  # a fixed colour would be wrong in the dark
