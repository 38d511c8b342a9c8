"""The RAPL meter on synthetic powercap trees under tmp_path; no figure comes from a processor."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.power import rapl
from edgevlm.devices.power.base import Meter, window
from edgevlm.devices.power.rapl import Rapl, advance

FULL = 262_143_328_850  # uJ, a range that Intel packages report


def zone(root: Path, place: str, name: str, energy: int, full: int = FULL) -> Path:
    folder = root / place
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{full}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    return folder / "energy_uj"


@pytest.fixture
def two_packages(tmp_path):
    """Synthetic: two packages with sub-domains, psys, and package 0 again through MMIO."""
    counters = {}
    for n in (0, 1):
        counters[f"package-{n}"] = zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 1_000_000)
        for m, name in enumerate(("core", "uncore", "dram")):
            # The kernel shows a sub-domain inside its package and in the flat list.
            counters[f"{name}-{n}"] = zone(tmp_path, f"intel-rapl:{n}:{m}", name, 5)
            zone(tmp_path, f"intel-rapl:{n}/intel-rapl:{n}:{m}", name, 5)
    counters["psys"] = zone(tmp_path, "intel-rapl:2", "psys", 7)
    counters["mmio"] = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 9)
    zone(tmp_path, "intel-rapl", "the control type", 0)
    return tmp_path, counters


def spend(counter: Path, microjoules: int, full: int = FULL) -> None:
    # Swapped in whole, as a counter is: the watching thread must not meet a half-written file.
    fresh = counter.with_name("fresh")
    fresh.write_text(f"{(int(counter.read_text()) + microjoules) % full}\n")
    fresh.replace(counter)


def test_packages_are_added_and_nothing_is_counted_twice(two_packages):
    root, counters = two_packages
    meter = Rapl(root)
    assert meter.available() is None and isinstance(meter, Meter)
    with window(meter) as opened:
        for name, counter in counters.items():
            spend(counter, {"package-0": 2_500_000, "package-1": 1_250_000}.get(name, 90_000_000))
    energy = opened.energy
    assert energy.joules == 3.75
    assert (energy.how, energy.meter) == ("measured-host", "rapl") and "DRAM" in energy.note
    assert energy.seconds > 0 and energy.watts == energy.joules / energy.seconds


def test_one_amd_package_and_a_second_window(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 40, full=65_532_610_987)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 40, full=65_532_610_987)
    meter = Rapl(tmp_path)
    for microjoules in (1_000_000, 3_000_000):
        with window(meter) as opened:
            spend(package, microjoules)
            spend(core, 900_000)
        assert opened.energy.joules == microjoules / 1e6


def test_a_counter_that_turns_over_once(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", FULL - 400_000)
    with window(Rapl(tmp_path)) as opened:
        spend(package, 1_000_000)
    assert int(package.read_text()) == 600_000
    assert opened.energy.joules == 1.0


def test_more_than_one_turn_is_followed_by_the_watching_thread(tmp_path, monkeypatch):
    full = 1_000_000  # 1 J: at 100 W half a turn takes 5 ms
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, full=full)
    reads, read = [], rapl.number
    monkeypatch.setattr(rapl, "number", lambda path: reads.append(path) or read(path))
    with window(Rapl(tmp_path, max_watts=100)) as opened:
        for _ in range(5):
            spend(package, 600_000, full)
            seen = len(reads)
            deadline = time.monotonic() + 10
            while len(reads) < seen + 2:  # until the thread has read this value
                assert time.monotonic() < deadline, "the watching thread does not read"
                time.sleep(0.001)
    assert opened.energy.joules == pytest.approx(3.0)


def test_a_short_window_is_read_at_its_ends_only(two_packages, monkeypatch):
    root, _ = two_packages
    reads, read = [], rapl.number
    monkeypatch.setattr(rapl, "number", lambda path: reads.append(path.name) or read(path))
    with window(Rapl(root)):
        reads.clear()
        time.sleep(0.05)
    assert reads == ["energy_uj", "energy_uj"]


def test_the_thread_ends_with_the_window_also_when_the_work_fails(two_packages):
    meter, before = Rapl(two_packages[0]), threading.active_count()
    with pytest.raises(KeyboardInterrupt), window(meter):
        assert threading.active_count() == before + 1
        raise KeyboardInterrupt
    assert threading.active_count() == before
    with window(meter) as opened:
        pass
    assert opened.energy.joules == 0


def test_permission_denied_is_a_sentence_with_its_reason(two_packages, monkeypatch):
    # Raised here and not by chmod, because root may read any file.
    def deny(path: Path) -> int:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return FULL

    monkeypatch.setattr(rapl, "number", deny)
    meter = Rapl(two_packages[0])
    reason = meter.available()
    assert "root alone (CVE-2020-8694)" in reason and str(two_packages[0]) not in reason
    with pytest.raises(JobFault) as caught:
        meter.start()
    assert caught.value.code == "EV402" and caught.value.why == reason


@pytest.mark.parametrize(
    "build",
    [
        lambda root: root / "absent",
        lambda root: root,
        lambda root: zone(root, "intel-rapl:0", "psys", 1).parents[1],
        lambda root: zone(root, "dtpm:0", "package-0", 1).parents[1],
    ],
)
def test_a_machine_without_packages_says_so(tmp_path, build):
    assert "no RAPL package counters" in Rapl(build(tmp_path)).available()


def test_a_counter_that_is_no_number_is_a_reason(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text("<unsupported>\n")
    assert Rapl(tmp_path).available() == "the RAPL counters cannot be read (ValueError)"


def test_a_counter_that_goes_away_inside_the_window_gives_no_figure(two_packages):
    root, counters = two_packages
    meter = Rapl(root)
    with pytest.raises(JobFault, match="EV402 power meter rapl"), window(meter):
        counters["package-1"].unlink()


def test_start_and_stop_come_in_pairs(two_packages):
    meter = Rapl(two_packages[0])
    with pytest.raises(RuntimeError, match="without start"):
        meter.stop()
    meter.start()
    with pytest.raises(RuntimeError, match="twice"):
        meter.start()
    meter.stop()


@given(st.integers(1, 2**40), st.data())
def test_steps_of_less_than_a_turn_add_up_to_what_was_spent(full, data):
    at = data.draw(st.integers(0, full - 1))
    spent = data.draw(st.lists(st.integers(0, full - 1), max_size=20))
    total = 0
    for step in spent:
        after = (at + step) % full
        total += advance(at, after, full)
        at = after
    assert total == sum(spent)
