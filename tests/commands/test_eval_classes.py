"""`edgevlm eval` of a classifier: accuracies known beforehand, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from micro.bare import bare_vit
from micro.shades import GREYS, nearest_grey, shade_classifier, shades

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.models.datasets import CLASSIFIED, DATASETS, load_dataset
from edgevlm.models.datasets.fashion_mnist import CLASSES

LABELS, SHADES = shades(10_000)


def counts(said: np.ndarray, rows: np.ndarray) -> dict[str, tuple[int, int]]:
    """class -> (n, correct), from the definition."""
    labels, right = LABELS[rows], (said == LABELS)[rows]
    return {
        CLASSES[k]: (int((labels == k).sum()), int(right[labels == k].sum()))
        for k in sorted(set(labels))
    }


def told(side: dict) -> dict[str, tuple[int, int]]:
    return {name: (s["n"], s["correct"]) for name, s in side["kinds"].items()}


@pytest.fixture
def evaluate(edgevlm, shade_data):
    def call(bundle: Path, *args: object, dataset: str = "fashion-mnist"):
        data = ("--data", shade_data) if dataset == "fashion-mnist" else ()
        return edgevlm("eval", bundle, "--dataset", dataset, *data, *args)

    return call


def derived(folder: Path, classes: list[int], names: list[str] | None = None) -> Path:
    """A bundle that knows these classes alone."""
    labels = [CLASSES[k] for k in classes] if names is None else names
    source = shade_classifier(folder, labels, [GREYS[k] for k in classes])
    compile_model(str(source), options_of("cpu", folder / "few.edgevlm", payoff="none"))
    return folder / "few.edgevlm"


def test_the_accuracy_is_what_the_pictures_are_made_to_give(evaluate, shade_bundle):
    ended = evaluate(shade_bundle, "--json")
    assert ended.status == 0, ended.err
    report, want = ended.json, counts(nearest_grey(SHADES, range(10)), np.arange(10_000))
    assert told(report) == want and len({right for _, right in want.values()}) == 10
    right = sum(right for _, right in want.values())
    assert report["accuracy"] == report["overall"]["accuracy"] == right / 10_000
    assert (report["n"], report["metric"], report["split"]) == (10_000, "top-1", "test")
    assert report["classes"]["asked"] == list(CLASSES) and "masked" not in report
    assert "shown:" not in ended.err and "bag" in ended.err


def test_chosen_classes_have_two_figures_on_the_same_pictures(evaluate, shade_bundle):
    ended = evaluate(shade_bundle, "--classes", "Bag,COAT,shirt", "--json")
    report, among = ended.json, [4, 6, 8]
    rows = np.flatnonzero(np.isin(LABELS, among))
    assert told(report) == counts(nearest_grey(SHADES, range(10)), rows)
    assert told(report["masked"]) == counts(nearest_grey(SHADES, among), rows)
    assert report["masked"]["accuracy"] > report["accuracy"]
    assert report["classes"] == {
        "asked": ["coat", "shirt", "bag"],
        "of_bundle": 10,
        "of_dataset": 10,
        "rows": 3000,
        "rows_of_split": 10_000,
    }
    lines = ended.err.splitlines()
    shown = "shown: 3000 pictures of 3 classes; fashion-mnist test has 10000 pictures of 10 classes"
    assert shown in lines
    assert any("base + head mask" in line and "95 % interval" in line for line in lines)


def test_all_classes_may_be_chosen_and_then_both_figures_are_one(evaluate, shade_bundle):
    report = evaluate(shade_bundle, "--classes", ",".join(CLASSES), "--limit", "500", "--json").json
    assert report["masked"]["overall"] == report["overall"] and report["n"] == 500


def test_a_limit_counts_pictures_of_the_chosen_classes(evaluate, shade_bundle):
    report = evaluate(shade_bundle, "--classes", "bag,coat", "--limit", "100", "--json").json
    assert report["n"] == 100 == sum(n for n, _ in told(report).values())
    assert set(report["kinds"]) == {"bag", "coat"} and report["classes"]["rows"] == 2000


def test_a_bundle_of_some_classes_is_shown_their_pictures_alone(evaluate, tmp_path):
    ended = evaluate(derived(tmp_path, [2, 5, 9], ["Pullover", "SANDAL", "Ankle boot"]), "--json")
    report, rows = ended.json, np.flatnonzero(np.isin(LABELS, [2, 5, 9]))
    assert told(report) == counts(nearest_grey(SHADES, [2, 5, 9]), rows)
    assert report["n"] == 3000 and report["classes"]["of_bundle"] == 3
    assert (
        "shown: 3000 pictures of 3 classes; fashion-mnist test has 10000 pictures of 10 classes, "
        "and the bundle knows no others"
    ) in ended.err


def test_a_derived_bundle_equals_the_masked_base(evaluate, shade_bundle, tmp_path):
    """What a class-specific model has to be held against: the same rows, the same figure."""
    own = evaluate(derived(tmp_path, [4, 6, 8]), "--json").json
    base = evaluate(shade_bundle, "--classes", "coat,shirt,bag", "--json").json
    assert own["overall"] == base["masked"]["overall"] != base["overall"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--classes", "bag,coats"), "EV135", "did you mean COAT?"),
        (("--classes", "bag"), "EV135", "two classes are the least"),
        (("--classes", "bag,Bag"), "EV135", "twice"),
        (("--limit", "0"), "EV132", "at least 1"),
        (("--split", "dev"), "EV132", "use train or validation or test"),
    ],
)
def test_what_is_refused(evaluate, shade_bundle, args, code, said):
    ended = evaluate(shade_bundle, *args)
    assert (ended.status, ended.code, ended.out) == (2, code, "") and said in ended.err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "has names of 0"),
        (["bag", "coats", "kilt"], "coats, kilt; nearest to coats: coat"),
        (["ant", "bee", "zzz"], "none is near"),
    ],
)
def test_names_that_are_not_the_data_sets(evaluate, tmp_path, names, said):
    ended = evaluate(derived(tmp_path, [1, 2, 3], names))
    assert (ended.status, ended.code, ended.out) == (2, "EV136", "") and said in ended.err


def test_models_and_data_sets_that_do_not_go_together(
    evaluate, edgevlm, bundle, shade_bundle, tmp_path
):
    ended = evaluate(bundle)
    assert (ended.status, ended.code) == (2, "EV136") and "asks none" in ended.err
    assert "--dataset easy-vqa or easy-scenes or scenes" in ended.err
    ended = evaluate(shade_bundle, dataset="easy-vqa")
    assert (ended.status, ended.code) == (2, "EV136") and "--dataset fashion-mnist" in ended.err
    ended = evaluate(bundle, "--classes", "a,b", dataset="easy-scenes")
    assert (ended.status, ended.code) == (2, "EV220") and "answers in words" in ended.err
    assert evaluate(shade_bundle, dataset="fashion-mist").code == "EV130"
    (tmp_path / "vit.onnx").write_bytes(bare_vit("dense", picture="1,3,16,16").SerializeToString())
    dense = tmp_path / "d.edgevlm"
    assert edgevlm("compile", tmp_path / "vit.onnx", "--target", "cpu", "-o", dense).status == 0
    for name in ("fashion-mnist", "easy-scenes"):
        ended = evaluate(dense, dataset=name)
        assert (ended.status, ended.code) == (2, "EV136") and "it makes maps" in ended.err
    ended = edgevlm("sweep", "easyvqa-tiny", "--target", "cpu", "--over", "tokens=16",
                    "--dataset", "fashion-mnist", "-o", tmp_path / "s")  # fmt: skip
    assert (ended.status, ended.code) == (2, "EV136") and "a sweep asks questions" in ended.err


def test_data_that_is_not_there(edgevlm, shade_bundle, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        ended = edgevlm("eval", shade_bundle, "--dataset", "fashion-mnist", "--data", folder)
        assert (ended.status, ended.code) == (1, "EV131")
        assert "next: apt-get install dataset-fashion-mnist" in ended.err


def test_what_is_classified_has_classes_for_answers_and_no_question(shade_data):
    for name in CLASSIFIED & set(DATASETS):
        found = load_dataset(name, "test", data_dir=shade_data, limit=50)
        assert {(r.question, r.answer == r.kind) for r in found.rows} == {("", True)}
        assert {r.kind for r in found.rows} <= set(found.kinds)
        assert found.kinds == CLASSES
