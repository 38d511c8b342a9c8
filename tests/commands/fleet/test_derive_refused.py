"""What is wrong with a fleet is told before any work, with the name of the set that has it."""

from __future__ import annotations

import os
import shutil

import pytest

from edgevlm.commands import derive as module

GOOD = '[[set]]\nname = "good"\nclasses = ["ant", "bee"]\n'


def one(more: str = "", name: str = '"x"', classes: str = '["bee", "cat"]') -> str:
    return f"{GOOD}[[set]]\nname = {name}\nclasses = {classes}\n{more}"


@pytest.fixture(autouse=True)
def nothing_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "make_base", lambda *_: pytest.fail("work was begun"))
    yield
    assert not list(tmp_path.glob("fleet/*"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no [[set]]"),
        ("set = []", "at least 1 item"),
        ("[[sets]]\nname = 'a'", "it has no [[set]]"),
        ("name = ", "Invalid value"),
        (one('alhpa = 0.5'), "number 2: unknown key 'alhpa'; known: name, classes, alpha,"),
        (one("alpha = 'half'"), "number 2: alpha: "),
        (one("quant = 8"), "number 2: quant: "),
        (one("recover = 0"), "number 2: recover: "),
        (one("purify = true"), "number 2: purify: "),
        ('[[set]]\nclasses = ["ant", "bee"]', "number 1: name: Field required"),
        ('[[set]]\nname = "a"', "number 1: classes: Field required"),
        (one(classes="[]"), "number 2: classes: "),
        (one(classes="[1, 2]"), "number 2: classes.0: "),
        (one(name='"../x"'), "name '../x' is no file name"),
        (one(name='"a b"'), "name 'a b' is no file name"),
        (one(name='""'), "name '' is no file name"),
        (one(name='"-x"'), "name '-x' is no file name"),
        (one(name='"x\\n"'), "is no file name"),
        (one(name='"GOOD"'), "two sets are called"),
        ("x = '" + "y" * 2**22 + "'", "larger than"),
        ("[[set]]\nname = 'a'\nclasses = " + "[" * 2000, "sets.toml"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_followed(derive, text, why):
    ended = derive(text)
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV222"), ended.err
    assert why in ended.err and ended.err.startswith("error EV222: --class-sets sets.toml")


def test_a_file_that_is_not_there_or_none(derive, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name in ("missing.toml", "", "pipe", "bytes"):
        ended = derive(tmp_path / name)
        assert (ended.status, ended.json["error"]["code"]) == (2, "EV222"), ended.err


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        (one(classes='["bee", "cta"]'), "EV135", "did you mean cat?"),
        (one(classes='["bee", "BEE"]'), "EV135", "twice"),
        (one(classes='["bee"]'), "EV135", "two classes are the least"),
        (one(classes='["ant", "bee", "cat", "dog", "eel"]'), "EV135", "all 5 classes"),
        (one("alpha = 1.0"), "EV250", "between 0 and 1"),
        (one("alpha = nan"), "EV250", "between 0 and 1"),
        (one("alpha = 0"), "EV250", "between 0 and 1"),
        (one('alpha = 0.5\nlatency-budget = "5ms"'), "EV220", "--latency-budget"),
        (one('latency-budget = "5"'), "EV250", "a time with its unit"),
        (one('target = "cqu"'), "EV301", ""),
        (one('quant = "w9"'), "EV202", ""),
        (one('tokens = "0"'), "EV203", ""),
        (one('prune = "nonesuch"\ntokens = 8'), "EV201", ""),
    ],
)  # fmt: skip
def test_a_set_that_cannot_be_had_is_named(derive, text, code, why):
    ended = derive(text)
    assert (ended.status, ended.json["error"]["code"]) == (2, code), ended.err
    assert "set 'x': " in ended.err and why in ended.err


def test_a_class_without_pictures_is_named_with_its_set(edgevlm, command, pictures, tmp_path):
    own = shutil.copytree(pictures, tmp_path / "own")
    shutil.rmtree(own / "cat")
    words = list(command(one()))
    words[words.index(pictures)] = own
    ended = edgevlm(*words, "--json")
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV139")
    assert "set 'x': cat: fewer than 5 calibration pictures" in ended.err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--targets", "cpu,nonesuch"), "EV301"),
        (("--alpha", "1.5"), "EV250"),
        (("--on", "elsewhere"), "EV220"),
        (("--on", "ray://"), "EV220"),
        (("--on", "ray://head:1", "--jobs", "2"), "EV220"),
        (("--jobs", "0"), "EV001"),
        (("--calib", "nonesuch"), "EV130"),
    ],
)
def test_options_of_the_call(derive, args, code):
    ended = derive(GOOD, *args)
    assert (ended.status, ended.json["error"]["code"]) == (2, code), ended.err


def test_no_target_at_all(edgevlm, command):
    words = list(command(GOOD))
    at = words.index("--targets")
    ended = edgevlm(*words[:at], *words[at + 2 :], "--json")
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV222")
    assert "set 'good': it has no target" in ended.err


def test_two_bundles_of_one_name(derive):
    text = GOOD + one(name='"good-cpu"').removeprefix(GOOD)
    ended = derive(text.replace('"good-cpu"', '"good-cpu"\ntarget = "cpu"'), "--targets",
                   "cpu,host-cpu")  # fmt: skip
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV222")
    assert "two bundles would be called 'good-cpu'" in ended.err


def test_more_token_reductions_than_the_cache_keeps(derive):
    text = "".join(
        f'[[set]]\nname = "s{n}"\nclasses = ["ant", "bee"]\ntokens = {n}\n' for n in range(4, 9)
    )
    ended = derive(text)
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV222")
    assert "5 different reductions of tokens" in ended.err


def test_a_budget_of_time_goes_to_no_cluster(derive):
    ended = derive(one('latency-budget = "5ms"'), "--on", "ray://head:10001")
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV220")
    assert "set 'x': a budget in ms with --on ray://head:10001" in ended.err


def test_an_output_that_is_a_file(derive, tmp_path):
    (tmp_path / "fleet").write_text("mine")
    ended = derive(GOOD)
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV310")
    assert (tmp_path / "fleet").read_text() == "mine"
    (tmp_path / "fleet").unlink()


def test_an_output_without_a_parent(edgevlm, command, tmp_path):
    words = list(command(GOOD))
    words[words.index(tmp_path / "fleet")] = tmp_path / "no" / "fleet"
    ended = edgevlm(*words, "--json")
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV310")
