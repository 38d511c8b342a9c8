"""Programs for a Mac: refused where there is none, run by a stand-in, and their ends told."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.connection import Reply
from edgevlm.runtimes.coreml import mac
from edgevlm.runtimes.coreml.benchmark import Phone, benchmark
from edgevlm.runtimes.coreml.compute_plan import compute_plan
from edgevlm.runtimes.coreml.mac import called, over, said, this_mac

ELSEWHERE = pytest.mark.skipif(sys.platform == "darwin", reason="this machine is a Mac")


def fault(run) -> JobFault:
    with pytest.raises(JobFault) as caught:
        run()
    assert all(caught.value.lines())
    return caught.value


def here(argv, feed: bytes) -> Reply:
    """This machine as if it were somewhere else: what `over` and ssh would do."""
    argv = [sys.executable if word == mac.PYTHON else word for word in argv]
    done = subprocess.run(argv, input=feed, capture_output=True, check=False)
    return Reply(done.returncode, done.stdout, done.stderr.decode())


@ELSEWHERE
def test_this_machine_is_no_mac():
    for run in (this_mac, lambda: compute_plan("m.mlpackage"), lambda: benchmark("m.mlpackage")):
        told = fault(run)
        assert told.code == "EV380" and "needs macOS" in told.what


@ELSEWHERE
@pytest.mark.parametrize("name", ["compute_plan", "benchmark"])
def test_the_programs_themselves_say_so_where_they_run(name):
    """Sent to a Python of another system, as over ssh."""
    arguments = {"compute_plan": ["m.mlpackage", "ALL"], "benchmark": ["{}"]}[name]
    assert fault(lambda: said(here, name, arguments)).code == "EV380"


def test_a_connection_carries_the_command_and_the_program():
    asked = []

    class Line:
        def run(self, line, feed=(), still_s=0):
            asked.append((line, b"".join(feed)))
            return Reply(0, b"out", "")

    out = said(over(Line()), "compute_plan", ["/a b/m.mlpackage", "ALL; rm -rf /"])
    ((line, feed),) = asked
    assert out == b"out" and b"MLComputePlan" in feed
    assert line == "python3 - '/a b/m.mlpackage' 'ALL; rm -rf /'"


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [(3, "EV380", "no Mac"), (4, "EV382", "no coremltools 9"), (5, "EV382", "no such iPhone"),
     (6, "EV382", "has states"),
     (1, "EV382", "status 1: words")],
)  # fmt: skip
def test_how_a_program_may_end(status, code, why):
    told = fault(lambda: said(lambda argv, feed: Reply(status, b"", "words"), "benchmark", ["{}"]))
    assert told.code == code and why in told.why


def test_a_tool_that_fails():
    told = fault(
        lambda: called(lambda argv, feed: Reply(70, b"", "no trace"), ["xcrun", "xctrace"])
    )
    assert told.code == "EV382" and "status 70: no trace" in told.why


def test_what_is_asked_is_data_and_no_shell(monkeypatch):
    asked = []

    def run(argv, feed):
        asked.append(argv)
        return Reply(5, b"", "")

    phone = Phone("$(reboot)", team="T")
    told = fault(lambda: benchmark("/m'; x", run, "decode", phone=phone))
    assert told.code == "EV382" and "no such iPhone" in told.why
    told = json.loads(asked[0][2])
    assert told["model"] == "/m'; x" and told["phone"]["udid"] == "$(reboot)"
