"""`edgevlm compile`: what it reports, what it refuses, and that it proves what it says."""

from __future__ import annotations

import json
import tomllib

import pytest

from edgevlm.compiler.drift import Drift


@pytest.fixture
def compiled(edgevlm, micro_folder, tmp_path):
    """`compiled("--tokens", "3", ...)`: compile the micro model of 9 image tokens."""

    def run(*args: object, model: object = micro_folder):
        return edgevlm("compile", model, "--target", "cpu", "-o", tmp_path / "b.edgevlm", *args)

    return run


def test_the_report_of_the_issue(edgevlm, tmp_path):
    out = tmp_path / "b.edgevlm"
    ended = edgevlm("compile", "easyvqa-tiny", "--target", "cpu", "-o", out, "--json")
    report = ended.json
    assert ended.status == 0 and report["schema"] == 1 and report["bundle"] == str(out)
    assert [p["role"] for p in report["parts"]] == [
        "vision", "connector", "embed", "prefill", "decode",
    ]  # fmt: skip
    for part in report["parts"]:
        assert part["bytes"] > 0 and part["drift"]["sqnr_db"] > 80
        assert part["drift"]["against"] == "source" and part["drift"]["how"] == "measured-host"
    assert report["seconds"] > 0 and report["peak_rss_mb"] > 50
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    assert 0 <= size - report["bytes"] < 40_000  # all but manifest, record and sums
    answers = report["answers"]
    assert answers["agree_with_source"] == answers["probes"] == answers["correct"] == 12


def test_pruned_and_quantised_parts_say_what_they_are_compared_with(edgevlm, bundle):
    drift = {p["role"]: p["drift"] for p in edgevlm("inspect", bundle, "--json").json["parts"]}
    assert drift["vision"]["against"] == drift["embed"]["against"] == "source"
    assert 30 < drift["vision"]["sqnr_db"] < 80 and 30 < drift["embed"]["sqnr_db"] < 80  # int8
    for role in ("connector", "prefill", "decode"):
        assert drift[role]["against"] == "own graph" and drift[role]["sqnr_db"] > 80
    assert drift["connector"]["token_overlap"] == 1.0


def test_progress_and_tables_go_to_stderr_and_the_next_command_is_told(compiled, tmp_path):
    ended = compiled()
    assert ended.status == 0 and ended.out == ""
    for said in ("read source", "lower to ort", "check artifacts", "write bundle", "SQNR dB"):
        assert said in ended.err
    assert "\x1b" not in ended.err and "\r" not in ended.err  # a log, not a terminal
    out = tmp_path / "b.edgevlm"
    run, profile = ended.err.splitlines()[-2:]
    assert run.startswith(f"next: edgevlm run {out} --image {out}/goldens/000.png --prompt ")
    assert profile.strip() == f"edgevlm profile {out}"


def test_json_has_no_company_on_stdout_and_quiet_is_quiet(process, tmp_path):
    """In a process of its own: C++ and libraries write past sys.stderr."""
    args = ("compile", "easyvqa-tiny", "--target", "cpu", "--tokens", "16", "--payoff", "none")
    ended = process(*args, "-o", tmp_path / "b.edgevlm", "--json", "--quiet")
    assert ended.status == 0 and ended.err == "" and ended.json["schema"] == 1


@pytest.mark.parametrize(
    ("args", "status", "code", "said"),
    [
        (("--tokens", "0"), 2, "EV203", "the budget is 1 to 9"),
        (("--tokens", "-1"), 2, "EV203", "a budget is a number or a share"),
        (("--tokens", "0%"), 2, "EV203", "the budget is 1 to 9"),
        (("--tokens", "101%"), 2, "EV203", "the budget is 1 to 9"),
        (("--tokens", "10"), 2, "EV203", "the budget is 1 to 9"),
        (("--tokens", "many"), 2, "EV203", "a budget is a number or a share"),
        (("--tokens", "50%,25%"), 2, "EV203", "2 budgets for 1 sites"),
        (("--tokens", "3", "--prune", "drat"), 2, "EV201", "the nearest: dart"),
        (("--tokens", "3", "--prune", "dart:pivot=2"), 2, "EV202", "its options: pivots"),
        (("--tokens", "3", "--prune", "dart:2"), 2, "EV202", "'2' is not option=value"),
        (("--tokens", "3", "--prune-at", "llm:7"), 2, "EV209", "llm:0 to llm:0"),
        (("--tokens", "3", "--prune-at", "lm:0"), 2, "EV209", "vision:B, vision-out"),
        (("--tokens", "3", "--prune-at", "llm:0,llm:0"), 2, "EV205", "one at a place"),
        (("--tokens", "3", "--positions", "upside-down"), 2, "EV202", "'position'"),
        (("--tokens", "3", "--prune", "fastv", "--prune-at", "vision-out"), 2, "EV230", "no text"),
        (("--prune", "dart"), 2, "EV220", "add a budget: --tokens"),
        (("--prune-at", "llm:0"), 2, "EV220", "add a budget: --tokens"),
        (("--positions", "renumber"), 2, "EV220", "add a budget: --tokens"),
        (("--recipe", "x", "--prune", "dart"), 2, "EV220", "--recipe with --tokens"),
        (("--quant", "w3"), 2, "EV202", "schemes: none, w8"),
        (("--max-prompt", "5"), 2, "EV115", "compile the checkpoint instead"),
        (("--min-sqnr", "nan"), 2, "EV202", "give a number of dB"),
        (("--min-sqnr", "inf"), 2, "EV202", "give a number of dB"),
        (("--target", "cpuu"), 2, "EV301", "did you mean cpu"),
        (("--target", "toaster"), 2, "EV301", "edgevlm devices list"),
        (("--recipe", "none.toml"), 2, "EV205", "No such file"),
        (("--recipe", "x", "--tokens", "3"), 2, "EV220", "--recipe with --tokens"),
        (("--probes", "."), 2, "EV134", "no .png"),
    ],
)
def test_what_is_refused(compiled, tmp_path, monkeypatch, args, status, code, said):
    monkeypatch.chdir(tmp_path)
    ended = compiled(*args)
    assert (ended.status, ended.code, ended.out) == (status, code, "") and said in ended.err
    assert list(tmp_path.iterdir()) == []
    ended = compiled(*args, "--json", "--quiet")
    assert ended.json["error"]["code"] == code and len(ended.err.splitlines()) == 3


def test_a_pass_that_strays_too_far_is_named(compiled, tmp_path):
    ended = compiled("--quant", "w8", "--min-sqnr", "60", model="easyvqa-tiny")
    assert (ended.status, ended.code) == (1, "EV206")
    assert "pass quantize-weights changed part" in ended.err and "first strayed at" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_for_another_target_is_refused(compiled, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('schema = 1\ntarget = "toaster"\n')
    ended = compiled("--recipe", recipe)
    assert (ended.status, ended.code) == (2, "EV301") and "toaster" in ended.err


def test_a_recipe_for_another_device_is_refused(compiled, tmp_path, monkeypatch):
    from edgevlm.commands import compile as module

    real = module.find_device
    other = real("cpu").model_copy(update={"id": "board-8"})
    monkeypatch.setattr(module, "find_device", lambda n: other if n == "board-8" else real(n))
    recipe = tmp_path / "r.toml"
    recipe.write_text('schema = 1\ntarget = "board-8"\n')
    ended = compiled("--recipe", recipe)
    assert (ended.status, ended.code) == (2, "EV220") and "a recipe for board-8" in ended.err


def test_an_empty_recipe_compiles_to_what_was_given(compiled, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('schema = 1\ntarget = "cpu"\n')
    ended = compiled("--recipe", recipe, "--json")
    assert ended.status == 0 and ended.json["checks"] == 0
    assert all(p["drift"]["sqnr_db"] > 100 for p in ended.json["parts"])


def test_probes_of_the_user_become_the_goldens(compiled, edgevlm, tmp_path, picture):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("b.png", "a.PNG"):
        (folder / name).write_bytes(picture.read_bytes())
    (folder / "notes.txt").write_text("no picture")
    report = compiled("--probes", folder, "--json", model="easyvqa-tiny").json
    assert report["answers"]["probes"] == 2 and report["answers"]["labelled"] == 0
    assert edgevlm("verify", report["bundle"], "--json").json["goldens"] == {"agree": 2, "of": 2}


@pytest.mark.parametrize(
    ("drift", "code"),
    [
        (Drift(39.9, 1.0, 0.1, "logits"), "EV305"),
        (Drift(float("nan"), 0.0, 0.0, "logits"), "EV305"),
        (Drift(-float("inf"), 0.0, float("inf"), "logits"), "EV305"),
    ],
)
def test_an_artifact_that_strays_is_not_written(compiled, tmp_path, monkeypatch, drift, code):
    from edgevlm.commands import artifacts as module

    monkeypatch.setattr(module, "compare_parts", lambda *_: {"decode": drift})
    ended = compiled("--json")
    assert (ended.status, ended.code) == (1, code) and "artifact decode" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_artifacts_that_answer_otherwise_are_not_written(compiled, tmp_path, monkeypatch):
    from edgevlm.commands import artifacts as module

    monkeypatch.setattr(module, "answered_otherwise", lambda a, b: {0, 1})
    ended = compiled()
    assert (ended.status, ended.code) == (1, "EV306") and "2 of 3 probes" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [1, 3])
def test_artifacts_that_keep_other_tokens_are_told_and_refused_where_none_is_left_to_judge(
    compiled, monkeypatch, other
):
    from edgevlm.commands import artifacts as module

    monkeypatch.setattr(module, "chosen_otherwise", lambda a, b: [i < other for i in range(3)])
    ended = compiled("--json")
    if other == 3:
        assert (ended.status, ended.code) == (1, "EV306") and "all 3 probes" in ended.err
    else:
        assert ended.json["answers"]["chosen_otherwise"] == 1


def test_a_drift_that_cannot_be_told_in_decibel_is_null(compiled, monkeypatch):
    """A part that was zero at the source: told as null, in a table as -, and JSON stays JSON."""
    from edgevlm.commands import finish as module

    odd = Drift(-float("inf"), float("nan"), 0.5, "image_embeds")
    monkeypatch.setattr(module, "total_drift", lambda *_: {"connector": odd})
    ended = compiled("--json")
    assert ended.status == 0
    drift = {p["role"]: p["drift"] for p in ended.json["parts"]}["connector"]
    assert drift["sqnr_db"] is None and drift["cosine"] is None
    row = next(line for line in ended.err.splitlines() if "connector" in line)
    assert row.split("│")[4].strip() == "-"


def test_the_record_tells_every_pass(bundle):
    record = json.loads((bundle / "record.json").read_text())
    recipe = tomllib.loads((bundle / "recipe.toml").read_text())
    assert [p["name"] for p in record["passes"]] == [step["name"] for step in recipe["pass"]]
    changed = [p for p in record["passes"] if p["changed"]]
    assert record["checks"] == len(changed) > 2
    assert all(p["check"]["answers_agree"] == p["check"]["probes"] == 12 for p in changed)
