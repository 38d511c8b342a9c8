"""A .pte on a device, with runners to order; one of them runs it really, over the real adb."""

from __future__ import annotations

from pathlib import Path

import pytest
from micro.executor_runner import Served
from micro.links import Here

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices.connect.address import connection_to
from edgevlm.devices.connect.session import reach
from edgevlm.runtimes.executorch.android import runner as runners
from edgevlm.runtimes.executorch.android.profile import Asked, profile_there
from edgevlm.runtimes.executorch.kernels import kernel_counts
from edgevlm.runtimes.executorch.layer_times import layer_times
from edgevlm.runtimes.executorch.nodes import read_nodes

HELP = "model_path etdump_path num_executions method_name inputs print_output"
#: a stand-in: it has the flags of HELP, says how it was called and hands over what was recorded
STAND_IN = """#!/bin/sh
if [ "$1" = --help ]; then
for each in {flags}; do echo "    -$each (what it is) type: string"; done; exit 1; fi
printf '%s\\n' "$@" > {seen}/words; ls > {seen}/files
for each; do case "$each" in --etdump_path=*) out=${{each#*=}};;
--model_path=*) [ -s "${{each#*=}}" ] || exit 9;; esac; done
{body}
"""
HAND_OVER = 'cp {dump} "$out"'


@pytest.fixture
def here(tmp_path):
    (tmp_path / "device").mkdir()
    return Here(tmp_path / "device")


@pytest.fixture
def device(here):
    return reach(here, patience_s=2.0, sleep=lambda _: None)


@pytest.fixture
def stand_in(tmp_path, recorded):
    """A runner of this machine, of three runs whatever is asked; stand_in(body, flags)."""
    (tmp_path / "seen").mkdir()

    def make(body: str = HAND_OVER, flags: str = HELP) -> Path:
        path = tmp_path / "my_runner"
        body = body.format(dump=recorded("fp32.etdp"))
        path.write_text(STAND_IN.format(flags=flags, seen=tmp_path / "seen", body=body))
        return path

    return make


@pytest.fixture
def asked(recorded):
    """Recorded: the front of a .pte is enough for a stand-in."""
    return lambda **how: Asked(recorded("fp32.program"), **{"runs": 2, "warm_up": 1} | how)


def test_brought_run_and_gone(here, device, tmp_path, recorded, asked, stand_in):
    nodes = read_nodes(recorded("fp32.nodes.json"))
    timed = profile_there(device, asked(runner=stand_in(), inputs=[b"\0" * 2048]), nodes)
    assert timed.etdump == recorded("fp32.etdp").read_bytes()
    (method,) = timed.profile.methods
    assert (method.name, method.runs) == ("forward", 2)  # of three, one is for warming up
    assert kernel_counts(method.rows) == {"fp32": 8}
    assert "/up" in {layer.node for layer in layer_times(timed.profile, "measured-device")}
    words = (tmp_path / "seen" / "words").read_text().splitlines()
    assert {"--num_executions=3", "--method_name=forward", "--inputs=0.bin"} <= set(words)
    assert device.patience_s == 2.0  # less on leaving, and as before for who goes on
    assert {"0.bin", "input_list.txt", "outputs"} <= set(
        (tmp_path / "seen" / "files").read_text().split()
    )
    assert here.left() == []


def test_one_that_is_there_already(device, asked, stand_in, tmp_path, monkeypatch):
    there = tmp_path / "bin" / "executor_runner"
    there.parent.mkdir()
    there.write_text(stand_in().read_text())
    there.chmod(0o755)
    monkeypatch.setattr(runners, "PLACES", (str(there.parent),))
    monkeypatch.delenv(runners.RUNNER_VARIABLE, raising=False)
    assert profile_there(device, asked()).runner == str(there)


def test_a_link_that_breaks_on_the_way(here, device, asked, stand_in):
    here.cut_after = 100
    assert profile_there(device, asked(runner=stand_in())).profile.methods[0].runs == 2
    assert here.left() == []


def test_no_runner_anywhere(here, device, asked, monkeypatch):
    monkeypatch.setattr(runners, "PLACES", ("/none/such",))
    monkeypatch.setattr(runners, "NAMES", ("no_such_runner",))
    monkeypatch.delenv(runners.RUNNER_VARIABLE, raising=False)
    with pytest.raises(JobFault, match=r"EV433 here has no runner of ExecuTorch") as fault:
        profile_there(device, asked())
    assert "--target executor_runner" in fault.value.fix and here.left() == []


def test_one_of_another_machine(device, asked, tmp_path):
    """Synthetic: an ELF head of a machine that is none of ours."""
    path = tmp_path / "runner"
    path.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + (243).to_bytes(2, "little"))
    with pytest.raises(JobFault, match=r"EV433 .*it was built for riscv64"):
        profile_there(device, asked(runner=path))


def test_one_that_does_not_start(here, device, asked, tmp_path):
    path = tmp_path / "runner"
    path.write_bytes(b"MZ\0no program of this system")
    with pytest.raises(JobFault, match=r"EV433 .*does not run") as fault:
        profile_there(device, asked(runner=path))
    assert len(fault.value.lines()) == 3 and here.left() == []


@pytest.mark.parametrize(
    ("body", "code", "why"),
    [
        ("echo 'Loading of method failed: 0x20' >&2; exit 134", "EV437", "134: Loading of method"),
        ("exit 1", "EV437", "status 1"),
        ("kill -9 $$", "EV437", "killed, most likely for want of memory"),
        (":", "EV361", "built without the event tracer"),
        (': > "$out"', "EV361", "built without the event tracer"),
        ('echo hello > "$out"', "EV360", "no ETDump"),
    ],
)
def test_one_that_fails(here, device, asked, stand_in, body, code, why):
    with pytest.raises(JobFault, match=f"{code} .*{why}") as fault:
        profile_there(device, asked(runner=stand_in(body)))
    assert len(fault.value.lines()) == 3 and here.left() == []


def test_one_without_the_tracer(here, device, asked, stand_in):
    flags = HELP.replace("etdump_path ", "")
    with pytest.raises(JobFault, match=r"EV361 .*built without the event tracer"):
        profile_there(device, asked(runner=stand_in(flags=flags)))
    assert here.left() == []


def test_a_library_goes_along(device, asked, stand_in, tmp_path):
    library = tmp_path / "libc++_shared.so"
    library.write_text("library")
    body = '[ -f "${{LD_LIBRARY_PATH%%%%:*}}/libc++_shared.so" ] || exit 4\n' + HAND_OVER
    timed = profile_there(
        device, asked(runner=stand_in(body.replace("%%", "%")), libraries=[library])
    )
    assert timed.profile.methods[0].runs == 2
    odd = library.rename(tmp_path / "two words.so")
    with pytest.raises(UsageFault, match=r"EV361 the library 'two words\.so'"):
        profile_there(device, asked(runner=stand_in(), libraries=[odd]))


def test_what_is_asked_wrongly(device, asked, recorded):
    with pytest.raises(UsageFault, match="EV410"):
        profile_there(device, asked(runs=0))
    with pytest.raises(UsageFault, match=r"EV361 method decode: the program has forward"):
        profile_there(device, asked(method="decode"))
    with pytest.raises(JobFault, match="EV360"):
        profile_there(device, Asked(recorded("fp32.etdp")))


def test_a_pte_that_really_runs_on_a_phone_that_is_not(phone, block, monkeypatch, tmp_path):
    """The real adb, a .pte of XNNPACK that runs, the ETDump of that run; the phone is this host."""
    there = phone.folder / "executor_runner"
    (tmp_path / "served").mkdir()
    monkeypatch.setattr(runners, "PLACES", (str(phone.folder),))
    monkeypatch.delenv(runners.RUNNER_VARIABLE, raising=False)
    device = reach(connection_to("adb:FAKE01"))
    with Served(tmp_path / "served") as served:
        there.write_text(served.script())
        there.chmod(0o755)
        asked = Asked(block.path, runs=4, warm_up=2, outputs=1)
        timed = profile_there(device, asked, block.nodes)
    assert [len(data) for data in timed.outputs] == [4 * 16 * 32]
    (method,) = timed.profile.methods
    assert method.runs == 4 and kernel_counts(method.rows) == {"fp32": 8}
    assert 0 < method.delegated < 1 and timed.profile.loads_ms[0] > 0
    assert {"/up", "/norm"} <= {x.node for x in layer_times(timed.profile, "measured-device")}
    assert [p.name for p in phone.folder.iterdir()] == ["executor_runner"]
