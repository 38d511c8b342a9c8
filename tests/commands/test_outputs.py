"""`compile -o`: wherever the output leads and whatever the disk does, nothing is lost."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("edgevlm")


@pytest.fixture
def compiled(edgevlm, micro_folder):
    """`compiled("-o", out, ...)`: compile the micro model."""

    def run(*args: object):
        return edgevlm("compile", micro_folder, "--target", "cpu", *args)

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_existing_output_is_refused_and_force_replaces_it(compiled, edgevlm, tmp_path):
    out = tmp_path / "b.edgevlm"
    assert compiled("-o", out).status == 0
    before = (out / "record.json").read_bytes()
    ended = compiled("-o", out)
    assert (ended.status, ended.code, ended.out) == (2, "EV310", "")
    assert "--force" in ended.err and (out / "record.json").read_bytes() == before
    assert compiled("-o", out, "--force").status == 0
    assert edgevlm("verify", out).status == 0 and names(tmp_path) == ["b.edgevlm"]


@pytest.mark.parametrize("kind", ["file", "link", "folder", "current", "parent"])
def test_force_refuses_what_is_no_bundle(compiled, tmp_path, monkeypatch, micro_bundle, kind):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    monkeypatch.chdir(home)
    out = {
        "file": Path("thesis.tex"),
        "link": Path("link"),
        "folder": home,
        "current": Path("."),  # noqa: PTH201  (as it is typed)
        "parent": Path(".."),
    }[kind]
    if kind == "link":
        out.symlink_to(micro_bundle)
    for force in ((), ("--force",)):
        ended = compiled("-o", out, *force)
        assert (ended.status, ended.code) == (2, "EV310")
    assert (home / "thesis.tex").read_text() == "years of work"
    assert names(tmp_path) == ["home"] and len(names(home)) == 1 + (kind == "link")


def test_a_relative_output_is_relative_to_here(compiled, edgevlm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compiled("-o", "b.edgevlm", "--quiet").status == 0
    assert compiled("-o", "./b.edgevlm/", "--force", "--quiet").status == 0
    assert edgevlm("verify", "b.edgevlm").status == 0 and names(tmp_path) == ["b.edgevlm"]


def test_odd_names_are_names(compiled, edgevlm, tmp_path, shell):
    """Spaces, quotes, brackets and letters of all kinds, in the suggested commands as well."""
    (tmp_path / "my models").mkdir()
    out = tmp_path / "my models" / "größe 'x' [1] 模型.edgevlm"
    ended = compiled("-o", out)
    assert ended.status == 0
    for _ in range(2):
        assert edgevlm("verify", out).status == 0
        assert compiled("-o", out, "--force").status == 0
    assert names(out.parent) == [out.name]
    suggested = [line.removeprefix("next: ").strip() for line in ended.err.splitlines()[-2:]]
    assert shell(suggested[0]).status == 0 and suggested[1].startswith("edgevlm profile ")


def test_a_missing_parent_is_told_before_any_work(compiled, tmp_path):
    ended = compiled("-o", tmp_path / "a" / "b" / "c.edgevlm")
    assert (ended.status, ended.code) == (2, "EV310")
    assert f"next: mkdir -p {tmp_path}/a/b" in ended.err and "read source" not in ended.err


def test_two_compiles_to_one_output_at_once(edgevlm, tmp_path, micro_folder):
    out = tmp_path / "b.edgevlm"
    command = [PROGRAM, "compile", micro_folder, "--target", "cpu", "-o", out, "--quiet", "--json"]
    racers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [(*racer.communicate(timeout=120), racer.returncode) for racer in racers]
    assert sorted(status for _, _, status in ends) == [0, 2]
    assert all("EV310" in err for _, err, status in ends if status == 2)
    assert edgevlm("verify", out).status == 0 and names(tmp_path) == ["b.edgevlm"]


def test_a_full_disk_for_real(edgevlm, mount):
    """A tmpfs with room for one bundle of 2 MB, and for half of the one to replace it."""
    disk = mount("size=3m")
    out = disk / "b.edgevlm"
    compiled = ("compile", "easyvqa-tiny", "--target", "cpu", "--payoff", "none", "-o", out)
    assert edgevlm(*compiled, "--quant", "w8").status == 0
    before = (out / "manifest.json").read_bytes()
    for more in (("--force",), ("--force", "--quant", "w8")):
        ended = edgevlm(*compiled, *more)
        assert (ended.status, ended.code) == (1, "EV311") and "the disk is full" in ended.err
        assert names(disk) == ["b.edgevlm"] and (out / "manifest.json").read_bytes() == before
    assert edgevlm("verify", out).status == 0


def test_a_read_only_disk_for_real(edgevlm, mount, micro_folder):
    disk = mount("size=1m,ro")
    ended = edgevlm("compile", micro_folder, "--target", "cpu", "-o", disk / "b.edgevlm")
    assert (ended.status, ended.code) == (1, "EV311")
    assert "cannot be written" in ended.err and "read source" not in ended.err


def test_a_file_over_the_limit_is_a_full_disk_by_other_means(process, edgevlm, own_bundle):
    """RLIMIT_FSIZE works for any user: the promise is tested where nothing can be mounted, too."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))

    args = ("compile", "easyvqa-tiny", "--target", "cpu", "-o", own_bundle, "--force", "--quiet")
    ended = process(*args, preexec_fn=limit)
    assert (ended.status, ended.code) == (1, "EV311")
    assert "File too large; nothing was changed" in ended.err
    assert names(own_bundle.parent) == ["own.edgevlm"]
    assert edgevlm("verify", own_bundle).status == 0
