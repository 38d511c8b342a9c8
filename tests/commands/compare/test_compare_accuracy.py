"""The same rows of both: counts that follow from the pictures, by integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from micro.shades import GREYS, nearest_grey, shade_classifier

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.models.datasets import load_dataset
from edgevlm.models.datasets.fashion_mnist import CLASSES
from edgevlm.models.datasets.paired import Pairs, holm

ROWS = ("--dataset", "fashion-mnist", "-n", "1", "--warmup", "0")


def shade(folder: Path, classes: list[int], greys: list[int] | None = None) -> Path:
    """A bundle that knows these classes, by these greys."""
    names = [CLASSES[k] for k in classes]
    source = shade_classifier(folder, names, greys or [GREYS[k] for k in classes])
    compile_model(str(source), options_of("cpu", folder / "b.edgevlm", payoff="none"))
    return folder / "b.edgevlm"


def seen(data: Path, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(label, grey) of the rows that are shown."""
    rows = load_dataset("fashion-mnist", "test", limit=limit, data_dir=data).rows
    return (
        np.array([CLASSES.index(row.answer) for row in rows]),
        np.array([int(row.rgb[0, 0, 0]) for row in rows]),
    )


@pytest.fixture(scope="module")
def swapped(tmp_path_factory) -> Path:
    """Says of classes 2 and 3 each the other."""
    greys = list(GREYS)
    greys[2], greys[3] = greys[3], greys[2]
    return shade(tmp_path_factory.mktemp("swapped"), list(range(10)), greys)


def test_who_was_right_on_which_row(compare, shade_bundle, swapped, shade_data):
    call = (*ROWS, "--data", shade_data, "--limit", "400")
    ended = compare(shade_bundle, swapped, *call, "--json")
    assert ended.status == 0, ended.err
    labels, greys = seen(shade_data, 400)
    said = nearest_grey(greys, range(10))
    other = np.array([0, 1, 3, 2, *range(4, 10)])[said]
    right = said == labels, other == labels
    pairs = Pairs.of(*right)
    assert pairs.only_a > 5 and pairs.neither > 5
    found = ended.json["accuracy"]
    for key, value in pairs.as_json().items():
        assert found[key] == pytest.approx(value), key
    assert (found["a"]["correct"], found["b"]["correct"]) == tuple(map(sum, right))
    assert found["verdict"] == ("worse" if pairs.significant else "none")
    assert found["classes"] == {"asked": list(CLASSES), "of_a": 10, "of_b": 10}
    by_kind = {
        CLASSES[k]: Pairs.of(*(side[labels == k] for side in right)) for k in sorted(set(labels))
    }
    raised = holm({kind: of.p for kind, of in by_kind.items()})
    for kind, of in by_kind.items():
        told = found["kinds"][kind]
        assert (told["n"], told["only_a"], told["only_b"]) == (of.n, of.only_a, of.only_b)
        assert told["p"] == pytest.approx(raised[kind])
    assert "pullover" in ended.err and "sandal" not in ended.err
    assert "held to" not in ended.err


def test_both_are_held_to_the_classes_that_both_know(compare, shade_bundle, few_bundle, shade_data):
    """The base alone may say ten; held to the same three, the two are one model."""
    call = (*ROWS, "--data", shade_data, "--limit", "300", "--json")
    ended = compare(shade_bundle, few_bundle, *call)
    found = ended.json["accuracy"]
    assert found["classes"] == {"asked": [CLASSES[k] for k in (4, 6, 8)], "of_a": 10, "of_b": 3}
    assert "both are held to 3 classes (A knows 10, B 3): coat, shirt, bag" in ended.err
    assert (found["only_a"], found["only_b"], found["n"]) == (0, 0, 300)
    assert (found["verdict"], found["told_from"]) == ("none", None)


def test_chosen_classes_are_a_smaller_question(compare, shade_bundle, swapped, shade_data):
    call = (*ROWS, "--data", shade_data, "--limit", "300", "--json", "--classes", "bag,coat")
    found = compare(shade_bundle, swapped, *call).json["accuracy"]
    assert found["classes"] == {"asked": ["coat", "bag"], "of_a": 10, "of_b": 10}
    assert found["only_a"] == found["only_b"] == 0


def test_bundles_with_no_two_classes_in_common(compare, shade_data, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b = shade(tmp_path / "a", [0, 1, 2]), shade(tmp_path / "b", [2, 3, 4])
    ended = compare(a, b, *ROWS, "--data", shade_data)
    assert (ended.status, ended.code) == (2, "EV136") and CLASSES[2] in ended.err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--dataset", "easy-scenes"), "EV136"),
        (("--dataset", "fashion"), "EV130"),
        (("--dataset", "fashion-mnist", "--split", "dev"), "EV132"),
        (("--dataset", "fashion-mnist", "--limit", "0"), "EV132"),
        (("--dataset", "fashion-mnist", "--classes", "bag,cheese"), "EV135"),
    ],
)
def test_what_cannot_be_asked(compare, shade_bundle, swapped, shade_data, args, code):
    data = ("--data", shade_data) if args[1] == "fashion-mnist" else ()
    ended = compare(shade_bundle, swapped, *args, *data, "-n", "1", "--warmup", "0")
    assert (ended.status, ended.code) == (2, code)
