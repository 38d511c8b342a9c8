"""XML without its dangers: no entities, no DTD, nothing fetched; bounds on size, depth, count."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

__all__ = ["Element", "parse"]

MOST_BYTES = 256 << 20
MOST_ELEMENTS = 5_000_000
DEEPEST = 100


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> list[Element]:
        """Direct children of that name."""
        return [child for child in self.children if child.tag == tag]

    def first(self, *path: str) -> Element | None:
        """By names, one level each."""
        found: Element | None = self
        for tag in path:
            found = next(iter(found.all(tag)), None) if found is not None else None
        return found


def parse(data: bytes) -> Element:
    """Raises ValueError for what is no XML, has a DTD, or is too large."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MiB of XML")
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True  # or every line comes by itself
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.EntityDeclHandler = builder.doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"no XML: {error}") from None
    if builder.root is None:
        raise ValueError("no XML: nothing in it")
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._texts: list[list[str]] = []  # of each that is open, in pieces
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS or len(self._open) >= DEEPEST:
            raise ValueError(f"XML of more than {MOST_ELEMENTS} elements, or {DEEPEST} levels")
        element = Element(tag, attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])

    def end(self, tag: str) -> None:
        element = self._open.pop()
        element.text = "".join(self._texts.pop()).strip()

    def characters(self, text: str) -> None:
        self._texts[-1].append(text)

    def doctype(self, *_: object) -> None:
        raise ValueError("XML with a document type or entities")
