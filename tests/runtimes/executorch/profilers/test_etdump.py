"""The reader of ETDumps against another writer of flatbuffers, and against broken files."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.etdump import Span, dump, inside, op, span, whole

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch import etdump as module
from edgevlm.runtimes.executorch.etdump import parse_etdump, read_etdump

TICKS = st.integers(0, 2**63)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)
SPANS = st.builds(
    lambda name, at, start, took, id: Span(
        None if id is not None else name, at, start, start + took, 0, id
    ),
    NAMES,
    st.integers(0, 1000),
    TICKS,
    st.integers(0, 2**32),
    st.one_of(st.none(), NAMES.filter(bool), st.integers(0, 2**31 - 1)),
)
SMALL = dump([("Execute", [*op("add.out", 0, 10, 20), inside("GELU (NC) #1", 1, 21, 22)])])


@settings(max_examples=50)
@given(st.lists(st.tuples(NAMES, st.lists(SPANS, max_size=6)), max_size=4), st.booleans())
def test_every_span_comes_back(blocks, sized):
    found = parse_etdump(dump(blocks, sized))
    assert [block.name for block in found] == [name for name, _ in blocks]
    for block, (_, spans) in zip(found, blocks, strict=True):
        for event, each in zip(block.events, spans, strict=True):
            named = each.name if each.id is None else each.id
            if isinstance(named, int):
                named = f"delegate event {named}"
            assert (event.name, event.instruction) == (named, each.at)
            assert (event.start, event.end) == (each.start, each.end)
            assert event.inside == (each.id is not None)


def test_kinds():
    events = [span("Program::load_method", 0, 0, 5, -1), span("DELEGATE_CALL", 1, 5, 9)]
    block = parse_etdump(dump([("x", [*events, *op("add.out", 0, 1, 4), whole(0, 9)])]))[0]
    assert [e.kind for e in block.events] == ["load", "delegate", "kernel", "operator", "execute"]


def test_what_was_recorded(recorded):
    """Three runs of executorch 1.5.1, and the block of the load before them."""
    blocks = read_etdump(recorded("fp32.etdp"))
    assert [block.name for block in blocks] == ["Default", "Execute", "Execute", "Execute"]
    assert {e.kind for b in blocks for e in b.events} >= {"load", "execute", "inside", "delegate"}
    assert all(e.ticks >= 0 for block in blocks for e in block.events)


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_noise_is_refused(data):
    with pytest.raises(JobFault, match="EV360"):
        parse_etdump(data)


@settings(max_examples=300)
@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at, value):
    data = SMALL[:at] + bytes([value]) + SMALL[at + 1 :]
    try:
        parse_etdump(data)
    except JobFault as fault:
        assert fault.code == "EV360" and len(fault.lines()) == 3


@pytest.mark.parametrize("length", range(0, len(SMALL), 7))
def test_a_file_that_is_cut_off(length):
    """What is left may still be all that the root points to; otherwise it is told."""
    try:
        assert parse_etdump(SMALL[:length]) == parse_etdump(SMALL)
    except JobFault as fault:
        assert fault.code == "EV360"


def test_a_recorded_file_that_is_cut_off(recorded, tmp_path):
    path = tmp_path / "half.etdp"
    path.write_bytes(recorded("fp32.etdp").read_bytes()[:4000])
    with pytest.raises(JobFault, match=r"EV360 half\.etdp cannot be read: it is no ETDump, or"):
        read_etdump(path)


def test_another_file(recorded):
    with pytest.raises(JobFault, match=r"EV360 .*does not begin as one of kind ED00"):
        read_etdump(recorded("fp32.program"))


def test_none_and_nothing(tmp_path):
    with pytest.raises(JobFault, match=r"EV360 x\.etdp .*No such file"):
        read_etdump(tmp_path / "x.etdp")
    (tmp_path / "x.etdp").touch()
    with pytest.raises(JobFault, match="it is empty"):
        read_etdump(tmp_path / "x.etdp")


def test_too_large(monkeypatch, recorded):
    monkeypatch.setattr(module, "MOST_BYTES", 2**10)
    with pytest.raises(JobFault, match=r"EV360 .*is the most"):
        read_etdump(recorded("fp32.etdp"))


def test_events_that_are_told_again_and_again(monkeypatch):
    """A list of a few bytes may name one table a million times."""
    monkeypatch.setattr(module, "MOST_EVENTS", 10)
    with pytest.raises(JobFault, match="more than 10 events"):
        parse_etdump(dump([("x", [whole(0, 1)] * 11)]))


def test_a_list_that_says_it_is_huge():
    """The lengths of both lists, of blocks and of events, one after the other."""
    data, told = dump([("x", [whole(0, 1)])]), []
    for at in range(0, len(data) - 3, 4):
        if data[at : at + 4] == struct.pack("<I", 1):
            try:
                parse_etdump(data[:at] + struct.pack("<I", 2**31) + data[at + 4 :])
            except JobFault as fault:
                told.append(fault.why)
    assert sum("a list of 2147483648 at" in why for why in told) == 2


def test_an_event_that_ends_before_it_begins():
    with pytest.raises(JobFault, match="ends before it begins"):
        parse_etdump(dump([("x", [whole(5, 4)])]))
