"""`edgevlm eval` and `edgevlm profile`: the figures, their labels, and what is refused."""

from __future__ import annotations

import contextlib
import json
import math
import threading

import pytest

from edgevlm.commands.evaluate import score
from edgevlm.commands.session import open_for_answers
from edgevlm.compiler.bundle import open_bundle
from edgevlm.models.datasets import load_dataset

STAGES = ("preprocess", "vision", "connector", "prefill", "decode", "end_to_end")


def all_numbers(value: object):
    if isinstance(value, dict):
        for item in value.values():
            yield from all_numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from all_numbers(item)
    elif isinstance(value, int | float):
        yield value


def test_the_accuracy_of_the_issue(edgevlm, bundle):
    pytest.importorskip("easy_vqa", reason="the test images need: pip install 'edgevlm[data]'")
    ended = edgevlm("eval", bundle, "--dataset", "easy-vqa", "--limit", "200", "--json")
    report = ended.json
    assert ended.status == 0 and report["schema"] == 1 and report["bundle"] == str(bundle)
    assert (report["dataset"], report["split"], report["n"]) == ("easy-vqa", "test", 200)
    assert report["accuracy"] == report["overall"]["accuracy"] > 0.95
    kinds = report["kinds"]
    assert set(kinds) == {"colour", "shape", "yes-no"}
    assert sum(kind["n"] for kind in kinds.values()) == 200
    assert sum(kind["correct"] for kind in kinds.values()) == report["overall"]["correct"]
    for one in (*kinds.values(), report["overall"]):
        assert 0 <= one["low"] <= one["accuracy"] <= one["high"] <= 1
    assert "eval easy-vqa test: 200 of 200" in ended.err and "overall" in ended.err


def test_the_accuracy_is_that_of_asking_one_by_one(bundle):
    """Images are encoded once for all their questions; that must not change an answer."""
    rows = load_dataset("easy-scenes", "test", limit=60)
    answerer = open_for_answers(open_bundle(bundle)).answerer
    right = sum(answerer.answer(row.image, row.question).text == row.answer for row in rows.rows)
    assert score(answerer, rows)["overall"]["correct"] == right < 60  # it is not perfect on scenes


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--dataset", "easy-vka"), "EV130", "did you mean easy-vqa"),
        (("--dataset", "easy-scenes", "--split", "train"), "EV132", "use test"),
        (("--dataset", "easy-scenes", "--limit", "0"), "EV132", "at least 1"),
        (("--dataset", "easy-scenes", "--limit", "-5"), "EV132", "at least 1"),
        (("--dataset", "easy-scenes", "--data", "."), "EV132", "reads no folder"),
    ],
)
def test_what_eval_refuses(edgevlm, bundle, args, code, said):
    ended = edgevlm("eval", bundle, *args)
    assert (ended.status, ended.code, ended.out) == (2, code, "") and said in ended.err


def test_a_folder_that_is_no_dataset(edgevlm, bundle, tmp_path):
    ended = edgevlm("eval", bundle, "--dataset", "easy-vqa", "--data", tmp_path)
    assert (ended.status, ended.code) == (1, "EV131")


def test_a_dataset_with_a_corrupt_image_names_it(edgevlm, bundle, tmp_path, picture):
    images = tmp_path / "test" / "images"
    images.mkdir(parents=True)
    (images / "0.png").write_bytes(picture.read_bytes())
    (images / "1.png").write_bytes(picture.read_bytes()[:50])
    rows = [["what color is the shape?", "teal", 0], ["is there a circle?", "no", 1]]
    (tmp_path / "test" / "questions.json").write_text(json.dumps(rows))
    ended = edgevlm("eval", bundle, "--dataset", "easy-vqa", "--data", tmp_path)
    assert (ended.status, ended.code) == (1, "EV112") and "1.png" in ended.err


def test_the_profile_of_the_issue(edgevlm, bundle):
    ended = edgevlm("profile", bundle, "-n", "6", "--warmup", "2", "--json")
    report = ended.json
    assert ended.status == 0 and report["schema"] == 1
    assert tuple(report["stages"]) == STAGES
    for name, stage in report["stages"].items():
        assert 0 < stage["min_ms"] <= stage["p50_ms"] <= stage["p90_ms"] <= stage["p99_ms"]
        assert stage["how"] == "measured-host" and stage["n"] >= 6
        assert stage["n"] == 6 or name == "decode"
    assert report["fps"] > 0 and report["tokens_per_s"] > 0 and report["answers_per_s"] > 0
    vision = sum(report["stages"][s]["min_ms"] for s in ("preprocess", "vision", "connector"))
    assert report["ttft_ms"] > vision and 1000 / report["fps"] >= vision
    assert report["energy_j_per_answer"] is None or report["energy_j_per_answer"] > 0
    assert report["energy_note"] and (report["n"], report["warmup"]) == (6, 2)
    assert report["requests"] == 12 and report["tools"]["onnxruntime"]
    assert all(math.isfinite(number) for number in all_numbers(report))
    for name in STAGES:
        assert any(line.startswith(f"│ {name} ") for line in ended.err.splitlines())


def test_one_request_is_enough(edgevlm, bundle):
    report = edgevlm("profile", bundle, "-n", "1", "--warmup", "0", "--json").json
    stage = report["stages"]["vision"]
    assert stage["n"] == 1 and stage["p50_ms"] == stage["p90_ms"] == stage["p99_ms"]


@pytest.mark.parametrize(
    ("args", "status", "code"),
    [
        (("-n", "0"), 2, "EV410"),
        (("-n", "-1"), 2, "EV410"),
        (("--warmup", "-1"), 2, "EV410"),
        (("-n", "1.5"), 2, "EV001"),
        (("--device", "nowhere"), 2, "EV301"),
        (("--device", "ssh://-oProxyCommand=x"), 2, "EV430"),
        (("--device", "ssh://host/path"), 2, "EV430"),
        (("--device", "ssh://host:70000"), 2, "EV430"),
        (("--device", "adb:-a"), 2, "EV430"),
        (("--device", "ftp://host"), 2, "EV430"),
        (("--duration", "0"), 2, "EV410"),
        (("--duration", "soon"), 2, "EV410"),
        (("--duration", "25h"), 2, "EV410"),
        (("--power", "sun"), 2, "EV402"),
        (("--image", "cat.png"), 2, "EV411"),
        (("--prompt", "is it red?"), 2, "EV411"),
        (("--image", "nowhere.png", "--prompt", "is it red?"), 1, "EV110"),
    ],
)
def test_what_profile_refuses(edgevlm, bundle, args, status, code):
    ended = edgevlm("profile", bundle, *args)
    assert (ended.status, ended.code, ended.out) == (status, code, "")


def test_a_profile_of_one_picture_and_question(edgevlm, bundle, picture):
    ended = edgevlm("profile", bundle, "-n", "3", "--image", picture, "--prompt",
                    "what color is the shape?", "--power", "none", "--json")  # fmt: skip
    report = ended.json
    assert report["requests"] == 1 and report["stages"]["decode"]["n"] == 3  # "teal", then the end
    assert report["energy_j_per_answer"] is None and "energy: null" in ended.err
    assert edgevlm("profile", bundle, "-n", "1", "--image", picture, "--prompt", "").code == "EV121"


def test_a_profile_without_decode_says_so_instead_of_zero(edgevlm, bundle, picture, monkeypatch):
    """An answer of no token: there is no decode stage, and no rate is made up for it."""
    from edgevlm.models import answer

    monkeypatch.setattr(answer, "generate", lambda *a, trace, **k: trace.seconds.update(
        prefill=[0.001]) or iter(()))  # fmt: skip
    ended = edgevlm("profile", bundle, "-n", "2", "--json")
    assert ended.status == 0 and "decode" not in ended.json["stages"]
    assert ended.json["tokens_per_s"] is None and " - tokens/s" in ended.err


def test_time_by_op_adds_up(edgevlm, bundle):
    ended = edgevlm("profile", bundle, "-n", "1", "--ops", "--json")
    roles = {}
    for row in ended.json["ops"]:
        assert row["nodes"] > 0 and row["ms"] > 0 and row["how"] == "measured-host"
        roles.setdefault(row["role"], []).append(row)
    assert set(roles) == {"vision", "connector", "embed", "prefill", "decode"}
    for rows in roles.values():
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert "time by op" in ended.err


def test_progress_draws_from_no_other_thread_while_requests_are_timed(bundle, monkeypatch):
    """A drawing thread takes the interpreter for 5 ms at a stretch, right out of a request."""
    import io

    from rich.console import Console

    from edgevlm.commands.output import Speaker
    from edgevlm.commands.profile import profile_bundle

    speaker, alive = Speaker(), set()
    speaker._console = Console(file=io.StringIO(), force_terminal=True, width=100)
    before = threading.active_count()

    @contextlib.contextmanager
    def bar(title: str):
        with speaker.bar(title) as advance:

            def watched(done: int, total: int) -> None:
                advance(done, total)
                alive.add(threading.active_count())

            yield watched

    profile_bundle(bundle, n=4, warmup=1, power="none", bar=bar)
    assert alive == {before}
    assert "5/5" in speaker._console.file.getvalue()


def test_energy_is_read_with_a_meter(edgevlm, bundle, monkeypatch):
    """A made-up meter of 10 W idle and 10 W at work: the figure is told with its note."""
    from edgevlm.commands import profile_here as module
    from edgevlm.devices.power.base import Energy

    class Lamp:
        name = "lamp"

        def available(self) -> None:
            return None

        def start(self) -> None:
            pass

        def stop(self) -> Energy:
            return Energy(10.0, 1.0, "measured-host", "lamp", "")

    monkeypatch.setattr(module, "find_meter", lambda kind: (Lamp(), None))
    monkeypatch.setattr(module, "IDLE_S", 0.01)
    ended = edgevlm("profile", bundle, "-n", "5", "--json")
    assert ended.status == 0, ended.err
    assert ended.json["energy_j_per_answer"] == pytest.approx(2.0)
    assert "energy: 2.0000 J an answer" in ended.err and "lamp" in ended.json["energy_note"]
