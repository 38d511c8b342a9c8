"""First contact, and lines again behind a link that broke."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.session import Facts, reach


def test_what_a_device_says_of_itself(here):
    facts = reach(here).facts
    assert facts == Facts(here.home, facts.architecture, facts.system, "first")
    assert facts.architecture and facts.system.startswith("Linux")


def test_free_room_is_that_of_its_disk(device):
    import shutil

    assert device.free_bytes() == pytest.approx(shutil.disk_usage(device.facts.root).free, rel=0.2)


def test_a_line_is_run_again_behind_a_cut(here, device):
    here.dead = 2
    assert device.ask("echo there").text == "there\n"
    assert device.cuts == 1


def test_a_link_that_stays_away_is_told(here, device):
    here.dead = 10**6
    with pytest.raises(JobFault, match=r"EV436 the link to here broke: nobody answers; .* 2 s"):
        device.ask("true")


def test_a_device_that_was_started_anew_is_told(here, device):
    here.dead = 1
    here.restart()
    with pytest.raises(JobFault, match="EV436 here was started anew"):
        device.ask("true")


def test_nobody_there_is_told_at_once(here):
    here.dead = 1
    slept = []
    with pytest.raises(JobFault, match="EV431 here is not reached: nobody answers"):
        reach(here, sleep=slept.append)
    assert slept == []


def test_a_tool_that_is_missing_is_named(here, monkeypatch):
    plain = here.argv
    monkeypatch.setattr(here, "argv", lambda line: plain(line.replace("setsid", "no-such-tool")))
    with pytest.raises(JobFault, match=r"EV433 .*: it has no no-such-tool"):
        reach(here)


def test_a_folder_that_cannot_be_made(here):
    here.home = "/proc/nothing/here"
    with pytest.raises(JobFault, match="EV433"):
        reach(here)


def test_another_shell_than_ours_is_told(here, monkeypatch):
    monkeypatch.setattr(here, "argv", lambda line: ["sh", "-c", "echo cmd.exe here"])
    with pytest.raises(JobFault, match="EV431"):
        reach(here)
