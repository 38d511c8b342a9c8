"""`edgevlm derive`: the bundles that compiles would make, for less work, and none made twice."""

from __future__ import annotations

import gc
import json
import shutil

import numpy as np
import pytest

from edgevlm.commands import derived, fleet_plan, fleet_work
from edgevlm.compiler.bundle import check_bundle, open_bundle
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.passes import PASSES
from edgevlm.passes.derive import narrowing
from edgevlm.runtimes import find_runtime

SETS = """
[[set]]
name = "small"
classes = ["ant", "bee", "cat"]
alpha = 0.5
[[set]]
name = "large"
classes = ["cat", "bee", "ant"]
[[set]]
name = "other"
classes = ["dog", "eel"]
"""
ALPHA = {"small": 0.5, "large": 0.45, "other": 0.45}


@pytest.fixture
def counted(monkeypatch):
    """counted(module, name): the calls of a function from now on, as they come."""

    def watch(module, name: str) -> list[object]:
        real, calls = getattr(module, name), []

        def call(*args, **kwargs):
            calls.append(args)
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)
        return calls

    return watch


@pytest.fixture
def afresh(derive, tmp_path):
    """A call of a new process, with no bundle there, and by default nothing that was looked at."""

    def call(sets: str, looks: bool = False):
        shutil.rmtree(tmp_path / "fleet", ignore_errors=True)
        if not looks:
            shutil.rmtree(cache_root() / "looks", ignore_errors=True)
        fleet_work._base.cache_clear()
        ended = derive(sets)
        assert ended.status == 0, ended.err
        return ended.json

    return call


def _flip(path):
    path.write_bytes(path.read_bytes().swapcase())


def logits(bundle):
    opened = open_bundle(bundle)
    runtime = find_runtime(opened.manifest.target.runtime)
    pixels = np.random.default_rng(5).normal(size=(1, 3, 16, 16)).astype(np.float32)
    (out,) = runtime.open(opened).call("vision", {"pixel_values": pixels}).values()
    return out


@pytest.fixture(scope="module")
def compiled(edgevlm, vit, pictures, tmp_path_factory):
    """compiled(row of a set): how the compile of that alone ended, and its bundle; once each."""
    made, folder = {}, tmp_path_factory.mktemp("alone")

    def compile_(row):
        name = row["name"]
        if name not in made:
            classes, alpha = ",".join(row["classes"]), ALPHA[name]
            call = ("compile", vit, "--target", "cpu", "--classes", classes, "--alpha", alpha)
            ended = edgevlm(*call, "--calib", pictures, "-o", folder / name, "--json")
            assert ended.status == 0, ended.err
            made[name] = ended, folder / name
        return made[name]

    return compile_


@pytest.mark.parametrize("jobs", [1, 2])
def test_bundles_are_those_of_compile(derive, edgevlm, compiled, tmp_path, jobs):
    ended = derive(SETS, "--jobs", jobs)
    assert ended.status == 0, ended.err
    assert (ended.json["done"], ended.json["jobs"], ended.json["ok"]) == (3, jobs, True)
    for row in ended.json["sets"]:
        out, alpha = tmp_path / "fleet" / f"{row['name']}.edgevlm", ALPHA[row["name"]]
        single, alone = compiled(row)
        assert row["accuracy"] == single.json["derived"]["accuracy"]
        assert row["macs"] < 1 - alpha and check_bundle(out) == []
        mine, theirs = (open_bundle(each).manifest for each in (out, alone))
        assert mine.passes == theirs.passes and mine.contract == theirs.contract
        assert (out / "recipe.toml").read_bytes() == (alone / "recipe.toml").read_bytes()
        records = [json.loads((each / "record.json").read_text()) for each in (out, alone)]
        assert [p["macs"] for p in records[0]["parts"]] == [p["macs"] for p in records[1]["parts"]]
        base = [[{**p, "seconds": 0} for p in record["passes"][:9]] for record in records]
        assert base[0] == base[1] and any(p["check"] for p in base[0])  # notes and checks as well
        np.testing.assert_allclose(logits(out), logits(alone), atol=1e-3)
        assert edgevlm("verify", out).status == 0


def test_the_base_is_made_once_and_kept_for_the_next_run(derive, counted, tmp_path):
    """The cache is that of the session: another budget of tokens is a base of its own."""
    sets = SETS.replace("classes", 'tokens = "75%"\nclasses')
    made, loaded = counted(fleet_plan, "save_begun"), counted(fleet_work, "load_begun")
    first = derive(sets)
    assert first.status == 0, first.err
    assert len(made) == 1 and len(loaded) == 1
    assert not first.json["stages"]["base"]["cached"]
    shutil.rmtree(tmp_path / "fleet")
    again = derive(sets)
    assert again.status == 0 and again.json["stages"]["base"]["cached"] and len(made) == 1
    assert [r["digest"] for r in again.json["sets"]] == [r["digest"] for r in first.json["sets"]]
    passes = json.loads((tmp_path / "fleet/small.edgevlm/record.json").read_text())["passes"]
    (kept,) = [p for p in passes if p["name"] == "keep-tokens"]
    assert kept["check"]["probes"] > 0 and kept["changed"]


def test_a_second_budget_takes_less_of_the_class_set_stage(afresh, counted):
    _, small, large, _ = SETS.split("[[set]]")
    looks, orders = counted(narrowing, "see"), counted(narrowing, "eliminate")
    afresh("[[set]]" + large)
    alone = len(looks), len(orders)
    assert min(alone) > 0
    looks.clear(), orders.clear()
    told = afresh(f"[[set]]{large}[[set]]" + large.replace("large", "twin"))
    assert (len(looks), len(orders)) == alone  # nothing at all for the same budget
    twin = told["sets"][1]["stages"]["class_set"]
    assert twin["made"] == 0 and twin["reused"] > 0
    looks.clear(), orders.clear()
    afresh(f"[[set]]{small}[[set]]{large}")
    both = len(looks), len(orders)
    looks.clear(), orders.clear()
    afresh("[[set]]" + small)
    assert both[0] == alone[0] and both[1] < alone[1] + len(orders)


def test_the_heap_is_at_rest_while_bundles_are_made_and_not_behind(derive):
    """Groups do not freeze what the ones before them left: that would never be collected."""
    seen, real = [], fleet_work.finish

    def finish(*args, **kwargs):
        seen.append(gc.get_freeze_count())
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet_work, "finish", finish)
        assert derive(SETS).status == 0
    assert len(seen) == 3 and max(seen) <= seen[0] > 0 == gc.get_freeze_count()


def test_another_set_looks_at_no_picture_of_a_class_again(afresh, counted):
    """Two of its three classes were seen with the first set; the bundle is as if none had been."""
    first, second = ("name = 'one'\nclasses = ['ant', 'bee']", "name = 'two'\nclasses = ")
    second += "['bee', 'ant', 'dog']"
    looks = counted(narrowing, "see")
    told = afresh(f"[[set]]\n{first}\n[[set]]\n{second}")
    assert len(looks) == 2 * 3  # of each class those held out and the others
    one, two = (row["stages"]["pictures"] for row in told["sets"])
    assert (one["made"], one["reused"], two["made"], two["reused"]) == (4, 0, 2, 4)
    assert told["stages"]["pictures"]["made"] == 6 and one["seconds"] > 0
    alone = afresh(f"[[set]]\n{second}")
    assert alone["sets"][0]["digest"] == told["sets"][1]["digest"]


def test_a_later_call_looks_at_no_picture_again(afresh, counted):
    """Nor does it find the order of units of the same classes; bundles are the same to the bit."""
    sets = "[[set]]\nname = 'one'\nclasses = ['ant', 'bee']\n[[set]]\nname = 'two'\n"
    first = afresh(sets + "classes = ['bee', 'ant', 'dog']")
    looks, orders = counted(narrowing, "see"), counted(narrowing, "eliminate")
    again = afresh(sets + "classes = ['bee', 'ant', 'dog']", looks=True)
    assert (looks, orders) == ([], []) and again["stages"]["pictures"]["made"] == 0
    assert again["stages"]["pictures"]["reused"] == first["stages"]["pictures"]["made"] + 4
    assert [r["digest"] for r in again["sets"]] == [r["digest"] for r in first["sets"]]
    afresh(sets + "classes = ['bee', 'dog']\nalpha = 0.4", looks=True)
    assert looks == [] and orders
    told = afresh(sets + "classes = ['bee', 'cat']", looks=True)
    assert len(looks) == 2 == told["stages"]["pictures"]["made"]


def test_what_purifying_leaves_is_not_kept_for_later_calls(afresh, counted):
    pytest.importorskip("torch", reason="masks are trained: pip install 'edgevlm[torch]'")
    small = "[[set]]\nname = 'x'\nclasses = ['ant', 'bee']\npurify = 8"
    looks, orders = counted(narrowing, "see"), counted(narrowing, "eliminate")
    afresh(small)
    once = len(looks), len(orders)
    afresh(small, looks=True)
    assert min(once) > 0 and (len(looks), len(orders)) == (2 * once[0], 2 * once[1])


def test_what_the_base_says_of_pictures_held_out_is_asked_once(afresh, monkeypatch):
    real, asked = derived.Viewer.look, []

    def look(self, rgb, trace=None):
        asked.append(isinstance(self.parts, ReferenceParts))
        return real(self, rgb, trace)

    monkeypatch.setattr(derived.Viewer, "look", look)
    sets = "[[set]]\nname = 'one'\nclasses = ['ant', 'bee']\n[[set]]\nname = 'two'\nclasses = "
    rows = afresh(sets + "['bee', 'ant', 'dog']")["sets"]
    one, two = (row["held_out"] for row in rows)
    assert one < two and asked.count(True) == two and asked.count(False) == one + two


def test_a_set_may_be_purified_and_recovered(afresh, edgevlm, vit, pictures, tmp_path):
    """As a compile does it; what its sums are of is its own."""
    pytest.importorskip("torch", reason="both train: pip install 'edgevlm[torch]'")
    small = "name = 'x'\nclasses = ['ant', 'bee']\npurify = 8\nrecover = 8"
    told = afresh(f"[[set]]\n{small}")
    stages = told["sets"][0]["stages"]
    assert stages["pictures"]["made"] == 0 and stages["class_set"]["made"] > 0
    call = ("compile", vit, "--target", "cpu", "--classes", "ant,bee", "--alpha", "0.45")
    train = ("--purify", "8", "--recover", "8", "--calib", pictures)
    alone = edgevlm(*call, *train, "-o", tmp_path / "alone", "--json")
    assert alone.status == 0, alone.err
    recipes = [tmp_path / "fleet/x.edgevlm/recipe.toml", tmp_path / "alone/recipe.toml"]
    assert len({path.read_bytes() for path in recipes}) == 1
    assert b"recover-encoder" in recipes[0].read_bytes()


def test_what_purifying_leaves_is_looked_at_anew():
    steps = {name: PASSES[name]() for name in ("keep-classes", "purify-units", "narrow-encoder")}
    assert fleet_work._as_the_base([steps["keep-classes"], steps["narrow-encoder"]])
    assert not fleet_work._as_the_base([steps["purify-units"], steps["narrow-encoder"]])


def test_what_is_there_is_kept_and_what_is_missing_made(derive, counted, tmp_path):
    first = derive(SETS)
    assert first.status == 0, first.err
    record = json.loads((tmp_path / "fleet/other.edgevlm/record.json").read_text())
    assert record["fleet"]["set"] == "other" and set(record["stages"]) == {
        "base", "pictures", "class_set", "budget",
    }  # fmt: skip
    made = counted(fleet_work, "finish")
    again = derive(SETS)
    assert (again.status, again.json["done"], again.json["kept"], len(made)) == (0, 0, 3, 0)
    assert again.json["sets"] == [{**row, "status": "kept"} for row in first.json["sets"]]
    shutil.rmtree(tmp_path / "fleet/large.edgevlm")
    assert derive(SETS).json["done"] == 1 and len(made) == 1
    assert derive(SETS, "--force").json["done"] == 3


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda f: (f / "recipe.toml").write_text("x"), "were written"),
        (lambda f: _flip(f / "recipe.toml"), "not whole"),
        (lambda f: (f / "record.json").unlink(), "other inputs"),
        (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    ],
)
def test_another_bundle_in_the_way_is_not_replaced_unasked(derive, tmp_path, spoil, why):
    assert derive(SETS).status == 0
    spoil(tmp_path / "fleet/large.edgevlm")
    ended = derive(SETS)
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV310")
    assert why in ended.err and "'large'" in ended.err


def test_another_budget_under_the_same_name_is_not_replaced_unasked(derive):
    assert derive(SETS).status == 0
    ended = derive(SETS.replace("0.5", "0.4"))
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV310")
    assert "'small'" in ended.err and "other inputs" in ended.err
    ended = derive(SETS.replace("0.5", "0.4"), "--force")
    assert ended.status == 0 and ended.json["sets"][0]["alpha"] == 0.4


def test_other_pictures_are_other_inputs(derive, edgevlm, command, pictures, tmp_path):
    assert derive(SETS).status == 0
    own = shutil.copytree(pictures, tmp_path / "own")
    shutil.copy(own / "eel/0.png", own / "dog/0.png")
    words = list(command(tmp_path / "sets.toml"))
    words[words.index(pictures)] = own
    ended = edgevlm(*words, "--json")
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV310") and "'other'" in ended.err


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_set_that_fails_does_not_stop_the_others(derive, tmp_path, jobs):
    ended = derive(SETS.replace("0.5", "0.97"), "--jobs", jobs)
    assert (ended.status, ended.json["ok"]) == (1, False)
    assert (ended.json["done"], ended.json["failed"]) == (2, 1)
    small = ended.json["sets"][0]
    assert (small["status"], small["fault"]["code"]) == ("failed", "EV250")
    told = ended.err.splitlines()
    at = next(i for i, line in enumerate(told) if line.startswith("error EV250: set 'small': "))
    assert told[at + 1].startswith("  why:  ") and told[at + 2].startswith("  next: ")
    names = {p.name for p in (tmp_path / "fleet").iterdir()}
    assert names == {".lock", "large.edgevlm", "other.edgevlm"}


def test_a_bundle_for_each_target(derive, tmp_path):
    """A set with a target of its own has one; the others have one for each of --targets."""
    sets = SETS.replace('name = "other"', 'name = "other"\ntarget = "cpu"')
    ended = derive(sets, "--targets", "cpu,host-cpu")
    assert ended.status == 0, ended.err
    assert [row["name"] for row in ended.json["sets"]] == [
        "small-cpu", "small-host-cpu", "large-cpu", "large-host-cpu", "other",
    ]  # fmt: skip


def test_quantised_sets_are_judged(derive, tmp_path):
    sets = SETS.replace('name = "other"', 'name = "other"\nquant = "w8"')
    ended = derive(sets)
    assert ended.status == 0, ended.err
    quant = json.loads((tmp_path / "fleet/other.edgevlm/record.json").read_text())["quant"]
    assert quant["scheme"] == "w8"
