"""`edgevlm report`: what it gathers, when it measures, where it writes and what it refuses."""

from __future__ import annotations

import os

import pytest
from micro.page import visible

from edgevlm.commands.kept import keep, kept
from edgevlm.compiler.bundle import open_bundle


def test_a_bundle_that_was_never_measured(made, own):
    page, said = made(own)
    assert said["bytes"] == len(page)
    (told,) = said["bundles"]
    assert (told["profiles"], told["evals"]) == (0, 0)
    assert told["digest"] == open_bundle(own).digest
    assert {w["level"] for w in told["warnings"]} == {"note"}
    text = visible(page)
    assert "edgevlm profile own.edgevlm" in text
    assert "edgevlm eval own.edgevlm --dataset NAME" in text
    assert f"all {len(open_bundle(own).manifest.files)} are what SHA256SUMS" in text
    recipe = (own / "recipe.toml").read_text()
    assert all(line in text for line in recipe.split("\n") if line)


def test_what_was_measured_before_is_on_it(edgevlm, made, own):
    assert edgevlm("profile", own, "-n", "3", "--warmup", "0", "--ops").status == 0
    page, said = made(own)
    assert said["bundles"][0]["profiles"] == 1
    text = visible(page)
    assert "3 timed requests only" in text and "ran on the CPU, as expected" in text
    assert "measured since, see speed and energy" in text


def test_measure_profiles_and_asks_the_probes_again(made, own):
    page, said = made(own, "--measure")
    assert said["bundles"][0]["profiles"] == 1
    probes = len(open_bundle(own).manifest.goldens)
    assert f"{probes} of {probes} probes answered as promised" in visible(page)
    assert "Every node of prefill" in visible(page)


def test_the_newest_of_each_machine_is_shown(made, own):
    bundle, stage = open_bundle(own), {"p50_ms": 1.0, "how": "measured-host"}
    for fps, machine in ((10, "one"), (20, "one"), (30, "two")):
        keep("profile", bundle, {
            "stages": {"vision": stage}, "fps": fps, "host": {"cpu_model": machine}
        })  # fmt: skip
    keep("profile", bundle, {"stages": "spoilt"})
    page, said = made(own)
    assert said["bundles"][0]["profiles"] == 2
    text = visible(page)
    assert "20.0 /s" in text and "30.0 /s" in text and "10.0 /s" not in text


def test_an_earlier_profile_lends_its_ops_with_its_date(edgevlm, made, own):
    assert edgevlm("profile", own, "-n", "2", "--warmup", "0", "--ops").status == 0
    assert edgevlm("profile", own, "-n", "4", "--warmup", "0").status == 0
    page, said = made(own)
    assert said["bundles"][0]["profiles"] == 1
    text = visible(page)
    assert "4 requests" in text and "2 requests" not in text
    (with_ops,) = [p for p in kept("profile", open_bundle(own)) if "ops" in p]
    at = with_ops["at"].replace("T", " ").replace("Z", " UTC")
    assert f"in all nodes, measured on the host on {at}" in text
    assert "ran on the CPU, as expected" in text


def test_several_are_compared_and_one_alone_is_not(edgevlm, made, own, tmp_path, micro_folder):
    other = tmp_path / "other.edgevlm"
    done = edgevlm("compile", micro_folder, "--target", "cpu", "--quant", "w8", "-o", other)
    assert done.status == 0, done.err
    score = {"n": 200, "correct": 180, "accuracy": 0.9, "low": 0.85, "high": 0.93}
    for path in (own, other):
        report = {"dataset": "d", "split": "test", "overall": score, "how": "measured-host"}
        keep("eval", open_bundle(path), report)
    page, said = made(own, other)
    assert [b["bundle"] for b in said["bundles"]] == [str(own), str(other)]
    assert "d test: right answers against MB on disk" in visible(page)
    assert "Comparison" not in visible(made(own)[0])


def test_a_classifier_answers_in_words_and_has_no_first_token(edgevlm, made, vit_folder, tmp_path):
    out = tmp_path / "vit.edgevlm"
    assert edgevlm("compile", vit_folder, "--target", "cpu", "-o", out).status == 0
    text = visible(made(out, "--measure")[0])
    assert "A picture is done after" in text and "What the first token waits for" not in text
    manifest = open_bundle(out).manifest
    said = manifest.processor.class_names[manifest.goldens[-1].token_ids[0]]
    assert text.endswith(f"{said} {text[text.index('Every figure says') :]}")


def test_the_page_is_called_after_the_first_bundle(edgevlm, own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert edgevlm("report", own).status == 0
    assert (tmp_path / "own.html").read_bytes().startswith(b"<!doctype html>")
    monkeypatch.chdir(own)
    assert edgevlm("report", ".", "-o", tmp_path / "dot.html").status == 0
    assert b'<h1 dir="auto">own.edgevlm</h1>' in (tmp_path / "dot.html").read_bytes()


def test_the_same_again_gives_the_same_bytes(made, own):
    assert made(own)[0] == made(own)[0]


def test_nothing_is_overwritten_unasked(edgevlm, own, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("mine")
    ended = edgevlm("report", own, "-o", out)
    assert (ended.status, ended.code) == (2, "EV310") and out.read_text() == "mine"
    assert edgevlm("report", own, "-o", out, "--force").status == 0
    assert out.read_bytes() != b"mine"


@pytest.mark.parametrize("kind", ["folder", "link", "no parent", "pipe"])
def test_only_a_file_is_replaced(edgevlm, own, tmp_path, kind):
    out = tmp_path / "page.html"
    if kind == "folder":
        out.mkdir()
    elif kind == "link":
        out.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out = tmp_path / "none" / "page.html"
    ended = edgevlm("report", own, "-o", out, "--force")
    assert (ended.status, ended.code) == (2, "EV310")
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_leaves_nothing(edgevlm, own, mount):
    disk = mount("size=16k")
    ended = edgevlm("report", own, "-o", disk / "page.html")
    assert (ended.status, ended.code) == (1, "EV311")
    assert list(disk.iterdir()) == []


def test_wrong_calls(edgevlm, own, tmp_path):
    assert edgevlm("report").code == "EV001"
    assert edgevlm("report", tmp_path / "none").code == "EV320"
    twice = edgevlm("report", own, own, "-o", tmp_path / "p.html")
    assert (twice.status, twice.code) == (2, "EV220")
    assert not (tmp_path / "p.html").exists()


def test_no_path_and_no_machine_name_is_on_the_page(edgevlm, made, own, tmp_path):
    import platform

    assert edgevlm("profile", own, "-n", "2", "--warmup", "0").status == 0
    page = made(own)[0].decode()
    assert str(tmp_path) not in page and "/tmp" not in page
    assert platform.node() not in visible(page.encode()).split() or not platform.node()


def test_a_person_reads_the_warnings_and_where_the_page_is(edgevlm, own, tmp_path):
    ended = edgevlm("report", own, "-o", tmp_path / "p.html")
    assert ended.out == "" and "note: Speed has not been measured" in ended.err
    assert ended.err.splitlines()[-1].startswith(f"{tmp_path / 'p.html'}: ")
