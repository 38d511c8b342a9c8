"""`edgevlm compare`: whole calls, what they print, and what they refuse."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from edgevlm.commands.compare_memory import peak_of
from edgevlm.commands.kept import keep
from edgevlm.compiler.bundle import open_bundle

QUICK = ("-n", "30", "--warmup", "1")


def test_what_changed_is_told_and_what_did_not_is_not(compare, micro_bundle, micro_other):
    ended = compare(micro_bundle, micro_other, *QUICK, "--json")
    assert ended.status == 0, ended.err
    report = ended.json
    assert report["ok"] and not report["same"] and report["gates"] == []
    assert report["a"]["digest"] == open_bundle(micro_bundle).digest != report["b"]["digest"]
    assert [row["name"] for row in report["passes"]["added"]] == ["quantize-weights"]
    assert "  + quantize-weights" in ended.err and "fold-constants" not in ended.err
    assert report["speed"]["n"] == 30 and report["speed"]["how"] == "measured-host"
    assert report["memory"]["a_mb"] > 20 and report["accuracy"] is None
    assert "to the first token, " in ended.err and "time both: 62 of 62" in ended.err


def test_a_picture_and_question_of_ones_own(compare, micro_bundle, micro_other):
    picture = micro_bundle / "goldens" / "000.png"
    mine = ("--image", picture, "--prompt", "what is it")
    report = compare(micro_bundle, micro_other, *QUICK, *mine, "--json").json
    assert report["speed"]["requests"] == 1


def test_a_copy_is_the_same_bundle_and_nothing_is_measured(compare, micro_bundle, tmp_path):
    copy = shutil.copytree(micro_bundle, tmp_path / "copy")
    ended = compare(micro_bundle, copy, "--json")
    assert ended.status == 0 and "the same bundle" in ended.err
    report = ended.json
    assert report["same"] and report["settings"] == [] and report["goldens"]["otherwise"] == []
    assert report["speed"] is report["memory"] is report["accuracy"] is None


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--limit", "3"), "EV220"),
        (("--split", "val"), "EV220"),
        (("--classes", "a,b"), "EV220"),
        (("--max-drop", "1"), "EV220"),
        (("--max-slower", "5%", "-n", "25"), "EV410"),
        (("--max-slower", "fast"), "EV001"),
        (("--max-slower", "-5%"), "EV001"),
        (("--max-slower", "nan"), "EV001"),
        (("--max-drop", "-1"), "EV001"),
        (("-n", "0"), "EV001"),
        (("--image", "cat.png"), "EV411"),
        (("--prompt", "what?"), "EV411"),
    ],
)
def test_wrong_calls(compare, micro_bundle, micro_other, args, code):
    ended = compare(micro_bundle, micro_other, *args)
    assert (ended.status, ended.code, ended.out) == (2, code, "")


def test_places_that_are_no_two_bundles(compare, micro_bundle, shade_bundle, tmp_path):
    same = compare(micro_bundle, micro_bundle.parent / "." / micro_bundle.name)
    assert (same.status, same.code) == (2, "EV340") and "one folder" in same.err
    kinds = compare(micro_bundle, shade_bundle)
    assert (kinds.status, kinds.code) == (2, "EV340") and "classifier" in kinds.err
    for a, b in ((micro_bundle, tmp_path), (tmp_path / "none", micro_bundle)):
        assert (compare(a, b).status, compare(a, b).code) == (1, "EV320")


def test_a_question_to_a_classifier(compare, shade_bundle, tmp_path, resign):
    other = shutil.copytree(shade_bundle, tmp_path / "b.edgevlm")
    resign(other, lambda manifest: manifest["source"].update(name="another"))
    ended = compare(shade_bundle, other, "--prompt", "what?")
    assert (ended.status, ended.code) == (2, "EV220")


def test_a_bundle_that_cannot_run_here_is_compared_on_paper(
    compare, micro_bundle, tmp_path, resign
):
    other = shutil.copytree(micro_bundle, tmp_path / "b.edgevlm")
    resign(other, lambda manifest: manifest["target"].update(runtime="abacus"))
    ended = compare(micro_bundle, other, "--json")
    report = ended.json
    assert ended.status == 0 and report["speed"] is report["memory"] is None
    assert "abacus" in report["note"] and report["note"] in ended.err
    assert [row["what"] for row in report["settings"]] == ["target.runtime"]
    asked = compare(micro_bundle, other, "--max-slower", "5%")
    assert (asked.status, asked.code) == (2, "EV302")


def test_a_gate_that_is_not_passed_ends_with_one_and_the_whole_report(
    compare, micro_bundle, micro_other, monkeypatch
):
    from edgevlm.commands import compare_speed

    real = compare_speed.middle

    def slower(values):
        found = real(values)
        return type(found)(2.0, 1.9, 2.1) if len(values) >= compare_speed.TURNS else found

    monkeypatch.setattr(compare_speed, "middle", slower)
    ended = compare(micro_bundle, micro_other, *QUICK, "--max-slower", "5%", "--json")
    report = ended.json
    assert (ended.status, ended.code, report["ok"]) == (1, "EV341", False)
    assert [gate["of"] for gate in report["gates"]] == ["first_token", "end_to_end"]
    assert all(gate["fault"]["code"] == "EV341" for gate in report["gates"])
    assert ended.err.count("error EV341") == 2
    quiet = compare(micro_bundle, micro_other, *QUICK, "--max-slower", "5%", "--quiet")
    assert quiet.status == 1 and len(quiet.err.splitlines()) == 6
    passed = compare(micro_bundle, micro_other, *QUICK, "--max-slower", "150%")
    assert passed.status == 0 and passed.err.count(": passed") == 2


def test_memory_is_that_of_a_process_of_its_own(micro_bundle):
    """Whatever this process holds: a child counts from its own beginning."""
    ballast = np.ones(60_000_000)  # 480 MB
    bundle = open_bundle(micro_bundle)
    golden = bundle.manifest.goldens[0]
    peak = peak_of(bundle, bundle.folder / golden.image, golden.question)
    assert 20 < peak < 0.8 * ballast.nbytes / 1e6
    assert peak_of(bundle, bundle.folder / "no.png", golden.question) is None


def test_a_folder_called_edgevlm_is_not_run(micro_bundle, tmp_path, monkeypatch):
    (tmp_path / "edgevlm").mkdir()
    (tmp_path / "edgevlm" / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    bundle = open_bundle(micro_bundle)
    golden = bundle.manifest.goldens[0]
    assert peak_of(bundle, bundle.folder / golden.image, golden.question) > 20


def test_bundles_without_goldens_are_timed_on_a_picture_of_the_callers(
    compare, micro_bundle, micro_other, tmp_path, resign
):
    pair = [shutil.copytree(b, tmp_path / b.name) for b in (micro_bundle, micro_other)]
    for each in pair:
        resign(each, lambda manifest: manifest.update(goldens=[]))
    report = compare(*pair, *QUICK, "--json").json
    assert report["speed"] is report["memory"] is None and "--image" in report["note"]
    assert report["goldens"] == {"shared": 0, "otherwise": []}
    picture = micro_bundle / "goldens" / "000.png"
    mine = ("--image", picture, "--prompt", "what is it")
    report = compare(*pair, *QUICK, *mine, "--json").json
    assert report["speed"]["requests"] == 1 and report["note"] is None
    gate = compare(*pair, *QUICK, "--max-slower", "5%")
    assert (gate.status, gate.code) == (2, "EV411")


def test_what_was_measured_before_is_told(compare, cache, micro_bundle, micro_other):
    for path, correct in ((micro_bundle, 90), (micro_other, 40)):
        bundle = open_bundle(path)
        said = {"dataset": "scenes", "split": "test", "metric": "exact match", "how": "x"}
        keep("eval", bundle, {"n": 100, **said, "overall": {"n": 100, "correct": correct}})
        keep("profile", bundle, {"n": 9, "fps": 1.0, "host": {"cpu_model": "a board"}})
    ended = compare(micro_bundle, micro_other, "-n", "1", "--warmup", "0")
    assert "scenes test, as eval found before: A right on 90.00 %, B on 40.00 %" in ended.err
    assert "B loses 50.00 points (95 %: " in ended.err and "unpaired): significant" in ended.err
    assert "a board: profiled before" in ended.err
    assert "whether they differ cannot be told" in ended.err
