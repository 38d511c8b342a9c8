"""One line: what went in, what came out, how it ended, and whether the link held."""

from __future__ import annotations

import pytest

from edgevlm.devices.connect.connection import LinkLost


def test_streams_and_status_come_apart(here):
    reply = here.run("echo out; echo err >&2; exit 7")
    assert (reply.status, reply.text, reply.err) == (7, "out\n", "err")


def test_bytes_go_through_as_they_are(here):
    data = bytes(range(256)) * 4096
    assert here.run("cat", [data[:1000], data[1000:]]).out == data


def test_a_line_may_leave_its_input_unread(here):
    assert here.run("exit 3", [b"x" * 2**20] * 8).status == 3


def test_quotes_dollars_and_newlines_are_those_of_the_line(here):
    assert here.run("""a='it'"'"'s'\nprintf '%s' "$a \\$b" """).text == "it's $b"


def test_what_a_login_prints_is_no_output(here, monkeypatch):
    plain = here.argv
    monkeypatch.setattr(here, "argv", lambda line: plain(f"echo Welcome; echo hi >&2; {line}"))
    assert here.run("cat", [b"only this"]).out == b"only this"
    with here.open("cat") as child:
        child.stdin.write(b"and this\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"and this\n"


def test_a_client_that_dies_is_a_lost_link_and_no_status(here):
    with pytest.raises(LinkLost, match="cut"):
        here.run("echo half; kill -9 $$; sleep 1")


def test_what_the_line_prints_is_not_taken_for_its_end(here):
    """Only the mark of this very call counts."""
    reply = here.run("echo 'line-0000000000000000=0' >&2; exit 4")
    assert reply.status == 4 and "line-0000" in reply.err


def test_a_link_that_is_still_is_given_up(here):
    with pytest.raises(LinkLost):
        here.run("sleep 30", still_s=0.5)


def test_a_reply_has_an_end(here, monkeypatch):
    from edgevlm.devices.connect import connection

    monkeypatch.setattr(connection, "MOST_BYTES", 10_000)
    with pytest.raises(LinkLost, match="more than"):
        here.run("cat /dev/zero")


def test_a_client_that_is_not_installed(here, monkeypatch):
    monkeypatch.setattr(here, "argv", lambda line: ["no-such-client", line])
    with pytest.raises(LinkLost, match="no-such-client") as lost:
        here.run("true")
    assert lost.value.kind == "unknown"
