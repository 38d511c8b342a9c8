"""An HTML page as a list of its elements, for tests that ask what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

__all__ = ["Element", "elements", "visible"]

VOID = {"meta", "img", "br", "input", "hr", "link"}
UNSEEN = {"style", "script", "title"}


@dataclass(frozen=True)
class Element:
    tag: str
    attrs: dict[str, str]
    above: tuple[str, ...]  # tags that it is in


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Element] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append(Element(tag, {k: v or "" for k, v in attrs}, tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append(Element(tag, {k: v or "" for k, v in attrs}, tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not UNSEEN & set(self.open):
            self.words.append(data)


def _read(page: bytes) -> _Reader:
    reader = _Reader()
    reader.feed(page.decode())
    assert not reader.open, f"never closed: {reader.open}"
    return reader


def elements(page: bytes) -> list[Element]:
    """All of them in order. Fails where one is not closed, or by another's end."""
    return _read(page).found


def visible(page: bytes) -> str:
    """What a person reads, with single spaces."""
    return " ".join(" ".join(_read(page).words).split())
