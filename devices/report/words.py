"""Numbers as a reader wants them, and text of strangers made harmless to look at.

Escaping is the template's; this is about what escaping lets through: characters that turn the line
around, that hide, or that go on for ever.
"""

from __future__ import annotations

import shlex

from markupsafe import Markup

from edgevlm.devices.report.measured import is_measured

__all__ = ["MOST", "call", "clean", "count", "decibel", "figure", "label", "of_how", "of_moment",
           "percent", "plural", "printed", "short"]  # fmt: skip

MOST = 2000  # characters of one text on a page
HOW = {"measured-device": "measured on the device", "measured-host": "measured on the host"}


def clean(text: str, most: int = MOST) -> str:
    """Line breaks stay; all else that is not printable becomes its escape; what is too long ends.

    Marks that change the direction of writing are not printable.
    """
    cut = text[:most] + ("…" if len(text) > most else "")
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in cut)


def printed(value: object) -> object:
    """What every expression of a template goes through (jinja's `finalize`)."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def short(text: str, most: int) -> str:
    """At most so many characters, the end of it kept: names differ there as often as in front."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[len(text) - tail :]}"


def figure(value: float | None, digits: int = 3) -> str:
    """So many digits that count, thousands apart; "–" for what is not known.

    Of what is too small for them, that it is.
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    after, least = digits, 1.0
    while after and size >= least:
        after, least = after - 1, least * 10
    if not round(size, after):
        return f"<{10**-after:.{after}f}" if value > 0 else "0"
    return f"{value:,.{after}f}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def plural(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def decibel(value: float | None) -> str:
    """200 stands for no difference."""
    return "–" if value is None else "exact" if value >= 200 else f"{value:.1f}"


def of_how(how: str | None) -> str:
    """A label in words: "estimated-vela" is "estimated by vela"."""
    if how is None:
        return "not said how"
    return HOW.get(how) or how.replace("estimated-", "estimated by ", 1)


def of_moment(at: str | None) -> str:
    """2026-03-04T05:06:07Z as people write it."""
    return (at or "").replace("T", " ").replace("Z", " UTC")


def label(how: str | None) -> str:
    """The sort of a figure, for its mark: `sure` was measured, `guess` was not."""
    return "sure" if how and is_measured(how) else "guess"


def call(verb: str, name: str, *more: str) -> str:
    """A command that a reader can paste, where the bundle lies."""
    return " ".join(["edgevlm", verb, shlex.quote(short(name, 200)), *more])
