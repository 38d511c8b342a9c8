"""Files arrive whole or not at all, and what is there is not sent again."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect import copying
from edgevlm.devices.connect.copying import Item, copy


def item(path: Path) -> Item:
    data = path.read_bytes()
    return Item(path, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def files(tmp_path):
    """Two small ones, an empty one, and two that are large enough to be continued."""
    home, made = tmp_path / "source", {}
    rng = random.Random(0)
    for name, size in (
        ("a.json", 100),
        ("deep/er/b.bin", 70_000),
        ("empty", 0),
        ("w.bin", 3_000_001),
        ("deep/v.bin", 2**20),
    ):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size))
        made[name] = item(path)
    return made


def arrived(device, files) -> bool:
    home = Path(device.facts.root, "b")
    there = {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}
    return there == set(files) and all(
        (home / name).read_bytes() == each.path.read_bytes() for name, each in files.items()
    )


def test_all_of_them_with_their_bytes(device, files):
    told = []
    sent = copy(device, "b", files, lambda done, total: told.append((done, total)))
    assert arrived(device, files) and sent == sum(each.bytes for each in files.values())
    assert told == sorted(told) and told[-1] == (sent, sent)


def test_what_is_there_is_not_sent_again(device, files):
    copy(device, "b", files, lambda *_: None)
    assert copy(device, "b", files, lambda *_: None) == 0
    (Path(device.facts.root) / "b" / "a.json").write_bytes(b"spoilt")
    assert copy(device, "b", files, lambda *_: None) == 100
    assert arrived(device, files)


@pytest.mark.parametrize("at", [1, 50_000, 200_000, 1_000_000, 2_999_999])
def test_a_copy_goes_on_where_the_link_broke(here, device, files, at):
    large = {"w.bin": files["w.bin"]}
    here.cut_after = None
    feed, here.lines = here.run, []

    def cut_once(line, stdin=(), **how):
        if "cat >>" in line and not any("cat >>" in each for each in here.lines):
            here.cut_after = at
        return feed(line, stdin, **how)

    here.run = cut_once
    sent = copy(device, "b", large, lambda *_: None)
    assert arrived(device, large) and device.cuts == 1
    assert sum("cat >>" in each for each in here.lines) == 2
    assert sent <= large["w.bin"].bytes + 2 * copying.PIECE  # not from its beginning


def test_a_link_that_breaks_again_and_again_ends(here, device, files):
    feed = here.run

    def cut(line, stdin=(), **how):
        if "cat >>" in line:
            here.cut_after = 0
        return feed(line, stdin, **how)

    here.run = cut
    with pytest.raises(JobFault, match=r"EV436 the link to here broke: .*20 times in one copy"):
        copy(device, "b", {"w.bin": files["w.bin"]}, lambda *_: None)


def test_a_part_of_another_version_is_not_continued(here, device, files, tmp_path):
    home = Path(device.facts.root, "b")
    home.mkdir()
    (home / f"w.bin.{'0' * 64}.part").write_bytes(b"another file's beginning")
    copy(device, "b", {"w.bin": files["w.bin"]}, lambda *_: None)
    assert (home / "w.bin").read_bytes() == files["w.bin"].path.read_bytes()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.integers(0, 3_100_000), spoilt=st.booleans())
def test_whatever_lies_there_the_file_arrives(device, files, kept, spoilt):
    """A part of any length, right or wrong, even longer than the file."""
    each = files["w.bin"]
    part = Path(device.facts.root, "b", f"w.bin.{each.sha256}.part")
    part.parent.mkdir(exist_ok=True)
    (part.parent / "w.bin").unlink(missing_ok=True)
    data = (each.path.read_bytes() + b"more" * 30_000)[:kept]
    part.write_bytes(b"?" + data[1:] if spoilt and data else data)
    copy(device, "b", {"w.bin": each}, lambda *_: None)
    assert arrived(device, {"w.bin": each})


def test_a_full_disk_is_told_before_anything_is_sent(here, device, files, monkeypatch):
    monkeypatch.setattr(copying, "SPARE", 2**60)
    here.lines = []
    with pytest.raises(JobFault, match=r"EV435 here has no room left, copying 4\.1 MB"):
        copy(device, "b", files, lambda *_: None)
    assert not any("cat >>" in line or "tar" in line for line in here.lines)


def test_a_disk_that_fills_up_meanwhile(device, files):
    """/dev/full says what a full disk says."""
    home = Path(device.facts.root, "b")
    home.mkdir()
    each = files["w.bin"]
    (home / f"w.bin.{each.sha256}.part").symlink_to("/dev/full")
    with pytest.raises(JobFault, match=r"EV435 here has no room left, copying w\.bin"):
        copy(device, "b", {"w.bin": each}, lambda *_: None)


def test_a_file_that_changes_here_meanwhile_never_counts_as_arrived(device, files):
    each = files["w.bin"]
    each.path.write_bytes(b"x" * each.bytes)
    with pytest.raises(JobFault, match=r"EV439 w\.bin arrives at here as something else"):
        copy(device, "b", {"w.bin": each}, lambda *_: None)


def test_a_link_laid_there_is_not_written_through(device, files, tmp_path):
    """Somebody else on the device laid a link where our file goes: it is replaced."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    home = Path(device.facts.root, "b")
    home.mkdir()
    (home / "w.bin").symlink_to(victim)
    copy(device, "b", {"w.bin": files["w.bin"]}, lambda *_: None)
    assert victim.read_text() == "mine" and not (home / "w.bin").is_symlink()
