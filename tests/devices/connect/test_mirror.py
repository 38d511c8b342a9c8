"""A device's small files as a tree here, and what is told of a device by its shell."""

from __future__ import annotations

import os
import platform
import tempfile

import pytest

from edgevlm.devices.connect.connection import Reply
from edgevlm.devices.connect.look import look
from edgevlm.devices.connect.mirror import BATTERY, LOOKED_AT, MOST_BYTES, mirrored
from edgevlm.devices.host import describe_host
from edgevlm.devices.power.power_supply import Battery
from edgevlm.devices.state import describe_state


@pytest.fixture
def phone(device, tmp_path, monkeypatch):
    """Its kernel's files are below tmp_path/fs. Synthetic: two cores, a battery, a governor."""
    cores = tmp_path / "fs/sys/devices/system/cpu"
    for i in range(2):
        folder = cores / f"cpu{i}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text("sched_pixel\n")
        (folder / "scaling_cur_freq").write_text(f"{1000000 + i}\n")
        (folder / "scaling_max_freq").write_text("3100000\n")
    battery = tmp_path / "fs/sys/class/power_supply/battery"
    battery.mkdir(parents=True)
    for name, text in (
        ("current_now", "-812000\n"), ("voltage_now", "4100000\n"), ("status", "Discharging\n")
    ):  # fmt: skip
        (battery / name).write_text(text)
    (tmp_path / "fs/proc").mkdir()
    (tmp_path / "fs/proc/loadavg").write_text("0.52 0.58 1.59 1/613 12345\n")
    real = device.connection.argv

    def argv(line):
        home = str(tmp_path / "fs")
        line = line.replace(" /sys/", f" {home}/sys/").replace(" /proc/", f" {home}/proc/")
        # names come back as they are on the phone
        return real(line.replace('"$each"; head', f'"${{each#{home}}}"; head'))

    monkeypatch.setattr(device.connection, "argv", argv)
    return device


def test_what_reads_this_machine_reads_the_tree(phone):
    with mirrored(phone) as tree:
        tree.refresh()
        state = describe_state(tree.root, run=lambda _: "")
        assert state["governor"] == "sched_pixel" and state["cpu_mhz"] == [1000.0, 1000.0]
        assert state["cpu_most_mhz"] == 3100.0
        root = tree.root
    assert not root.exists()


def test_a_battery_is_read_anew(phone, tmp_path):
    with mirrored(phone, BATTERY) as tree:
        tree.refresh()
        assert Battery(tree.root).read() == {"battery": pytest.approx(0.812 * 4.1)}
        now = tmp_path / "fs/sys/class/power_supply/battery/status"
        now.write_text("Charging\n")
        tree.refresh()
        with pytest.raises(ValueError, match="charging"):
            Battery(tree.root).read()


def test_this_machine_as_a_device(device):
    """The same facts as reading it directly, but for what hangs on the process that reads."""
    with mirrored(device) as tree:
        tree.refresh()
        told, direct = look(device, tree), describe_host()
    assert told.kernel == f"{platform.system()} {platform.release()}"
    assert (told.architecture, told.os) == (platform.machine(), direct.os)
    assert told.cpu_model == direct.cpu_model and told.cpu_flags == direct.cpu_flags
    assert 0 < told.cores <= (os.cpu_count() or 1) and told.ram_gib >= direct.ram_gib
    assert told.python == "" and len(told.load_average) == 3


def test_a_phone_by_its_properties(phone, monkeypatch):
    """Synthetic answers of getprop."""
    ask = phone.ask

    def answer(line, *more):
        if "getprop" not in line:
            return ask(line, *more)
        text = "cores=8\nro.soc.manufacturer=Google\nro.soc.model=Tensor G4\n"
        return Reply(0, (text + "ro.build.version.release=15\nodd line\n").encode(), "")

    monkeypatch.setattr(phone, "ask", answer)
    with mirrored(phone) as tree:
        tree.refresh()
        told = look(phone, tree)
    assert (told.cpu_model, told.os, told.cores) == ("Google Tensor G4", "Android 15", 8)
    assert told.governor == "sched_pixel" and told.clock_mhz == 1000.0
    assert told.load_average == (0.52, 0.58, 1.59) and told.ram_gib is None


@pytest.mark.parametrize(
    "name",
    [
        "/proc/../../escape", "/etc/passwd", "proc/cpuinfo", "/proc/cpuinfo/x", "/proc/cpu info",
        "/sys/class/thermal/thermal_zone0/../type", "",
    ],
)  # fmt: skip
def test_names_of_a_stranger_lead_nowhere(device, monkeypatch, tmp_path, name):
    def answer(line, *_):
        mark = line.split("echo ")[1].split()[0]
        return Reply(0, f"{mark} {name}\nsecret\n{mark} /proc/loadavg\n1 2 3\n".encode(), "")

    monkeypatch.setattr(device, "ask", answer)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here"))
    with mirrored(device) as tree:
        tree.refresh()
        files = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
        assert files == [tree.root / "proc/loadavg"]


def test_a_file_without_end_is_cut_off(phone, tmp_path):
    (tmp_path / "fs/proc/cpuinfo").write_text("x" * (MOST_BYTES + 99))
    with mirrored(phone, LOOKED_AT) as tree:
        tree.refresh()
        assert (tree.root / "proc/cpuinfo").stat().st_size == MOST_BYTES
