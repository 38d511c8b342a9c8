"""The host, read from synthetic proc and sys trees under tmp_path, and once for real."""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
from pathlib import Path

import pytest

from edgevlm.devices import host as host_module
from edgevlm.devices.host import clock_mhz, describe_host, peak_rss_mb, tool_versions


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A synthetic machine with 8 cores; `tree(path, text)` adds a file to it."""
    monkeypatch.setattr(host_module, "_affinity", lambda: 8)

    def add(path: str, text: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return tmp_path

    return add


def test_an_intel_machine(tree):
    tree(
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n"
        "flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 sse\n\n"
        "processor\t: 1\nmodel name\t: Other\n",
    )
    tree("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n")
    tree("etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    tree("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    root = tree("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2595124\n")
    host = describe_host(root)
    assert host.cpu_model == "Some CPU @ 3 GHz"
    assert host.cpu_flags == ("avx2", "avx512f", "avx512_vnni", "amx_int8")
    assert (host.cores, host.cpu_quota, host.ram_gib) == (8, None, 16.0)
    assert host.os == "Debian GNU/Linux 12 (bookworm)"
    assert (host.governor, host.clock_mhz) == ("powersave", 2595.124)
    assert clock_mhz(root) == 2595.124


def test_an_arm_board(tree):
    tree("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\n")
    root = tree("sys/firmware/devicetree/base/model", "Some Board 5\0")
    host = describe_host(root)
    assert host.cpu_model == "Some Board 5"
    assert host.cpu_flags == ("asimd", "asimddp", "i8mm")


def test_an_arm_server_without_a_name(tree):
    root = tree("proc/cpuinfo", "CPU implementer\t: 0x41\nCPU part\t: 0xd40\n")
    assert describe_host(root).cpu_model == "Arm implementer 0x41, part 0xd40"


def test_what_cannot_be_read_is_none(tmp_path):
    host = describe_host(tmp_path)
    assert (host.cpu_model, host.ram_gib, host.governor, host.clock_mhz) == (None,) * 4
    assert host.cpu_flags == () and host.cores >= 1 and host.os == platform.system()


def test_a_folder_where_a_file_should_be_is_none(tree):
    assert clock_mhz(tree("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq/x", "1")) is None
    assert clock_mhz(tree("sys/devices/system/cpu/cpu0/cpufreq/y", "1")) is None


def test_cgroup_2_takes_the_tightest_limit_on_the_way_up(tree):
    tree("proc/meminfo", "MemTotal: 16777216 kB\n")
    tree("proc/self/cgroup", "0::/outer/inner\n")
    tree("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n")
    tree("sys/fs/cgroup/outer/cpu.max", "250000 100000\n")
    tree("sys/fs/cgroup/outer/inner/memory.max", "max\n")
    root = tree("sys/fs/cgroup/outer/memory.max", f"{4 * 2**30}\n")
    host = describe_host(root)
    assert (host.cpu_quota, host.cores, host.ram_gib) == (2.5, 3, 4.0)


def test_cgroup_1_is_read_too(tree):
    tree("proc/meminfo", "MemTotal: 16777216 kB\n")
    tree("proc/self/cgroup", "5:memory:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/\n")
    tree("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000\n")
    tree("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n")
    tree("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    root = tree("sys/fs/cgroup/memory/box/memory.limit_in_bytes", f"{2 * 2**30}\n")
    host = describe_host(root)
    assert (host.cpu_quota, host.cores, host.ram_gib) == (0.5, 1, 2.0)


def test_no_quota_in_cgroup_1_is_minus_one(tree):
    tree("sys/fs/cgroup/cpu.cfs_period_us", "100000\n")
    host = describe_host(tree("sys/fs/cgroup/cpu.cfs_quota_us", "-1\n"))
    assert (host.cpu_quota, host.cores) == (None, 8)


def test_a_quota_above_the_affinity_changes_nothing(tree):
    host = describe_host(tree("sys/fs/cgroup/cpu.max", "6400000 100000\n"))
    assert (host.cpu_quota, host.cores) == (64.0, 8)


def test_this_machine_is_described_without_names_or_paths():
    text = json.dumps(describe_host().as_json())
    data = json.loads(text)
    assert data["cores"] >= 1 and data["python"] == platform.python_version()
    assert data["kernel"].startswith(platform.system()) and isinstance(data["cpu_flags"], list)
    strings = [value for value in data.values() if isinstance(value, str)]
    assert not any(value.startswith("/") for value in strings)
    assert socket.gethostname() not in strings and getpass.getuser() not in strings
    assert str(Path.home()) not in text


def test_affinity_is_honoured():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert describe_host().cores == 1
    finally:
        os.sched_setaffinity(0, before)


def test_tool_versions_imports_nothing_and_says_none_for_the_absent():
    versions = tool_versions(["edgevlm", "no-such-distribution"])
    assert versions["edgevlm"] and versions["no-such-distribution"] is None


def test_peak_rss_is_what_the_kernel_counts():
    block = bytearray(os.urandom(1) * 64_000_000)
    status = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    assert peak_rss_mb() == pytest.approx(kib * 1024 / 1e6, rel=0.02)
    assert peak_rss_mb() > len(block) / 1e6
