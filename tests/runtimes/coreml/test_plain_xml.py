"""XML as hostile input: no entities, no DTD, no bombs; and what is plain is read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.runtimes.coreml import plain_xml
from edgevlm.runtimes.coreml.plain_xml import parse

BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]>
<a>&c;</a>"""
OUTSIDE = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


def test_what_is_plain():
    root = parse(b'<a x="1"><b> one <c/> two</b><b>&lt;three&gt;</b><?note x?><!-- y --></a>')
    assert (root.tag, root.attributes) == ("a", {"x": "1"})
    assert [b.text for b in root.all("b")] == ["one  two", "<three>"]
    assert root.first("b", "c") is not None and root.first("c") is None
    assert root.first("b", "d", "e") is None


@pytest.mark.parametrize("data", [BOMB, OUTSIDE, b"<!DOCTYPE a><a/>"])
def test_a_document_type_is_refused(data):
    with pytest.raises(ValueError, match="document type or entities"):
        parse(data)


@pytest.mark.parametrize("data", [b"", b"<a>", b"<a></b>", b"text", b"<a/><b/>", b"\xff\xfe<a/>"])
def test_what_is_no_xml(data):
    with pytest.raises(ValueError, match="no XML"):
        parse(data)


def test_bounds(monkeypatch):
    with pytest.raises(ValueError, match="levels"):
        parse(b"<a>" * 101 + b"</a>" * 101)
    assert parse(b"<a>" * 100 + b"</a>" * 100).tag == "a"
    monkeypatch.setattr(plain_xml, "MOST_ELEMENTS", 3)
    with pytest.raises(ValueError, match="more than 3 elements"):
        parse(b"<a><b/><b/><b/></a>")
    monkeypatch.setattr(plain_xml, "MOST_BYTES", 3)
    with pytest.raises(ValueError, match="MiB of XML"):
        parse(b"<ab/>")


def test_lines_of_a_text_are_put_together_once():
    """400,000 of them: a minute where each was added to all before it."""
    assert parse(b"<a>" + b"x\n" * 400_000 + b"<b>y</b>z</a>").text == "x\n" * 400_000 + "z"


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_or_told(data):
    with contextlib.suppress(ValueError):
        assert parse(data).tag
