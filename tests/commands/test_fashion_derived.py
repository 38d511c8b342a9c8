"""The bundled classifier derived for three classes, judged by test pictures that nothing saw."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.cost import count
from edgevlm.compiler.exported_model import load_model
from edgevlm.compiler.weights import load_graph
from edgevlm.models.datasets.fashion_mnist import FOLDER, INSTALL
from edgevlm.models.zoo import bundled_folder

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the pictures need: {INSTALL}")

CLASSES = "coat,pullover,shirt"  # the hardest to tell apart
ALPHAS = (0.2, 0.6, 0.8)
SHOWN = 900  # of 3,000 test pictures, as many of each class


@pytest.fixture(scope="module")
def judged(tmp_path_factory, edgevlm):
    """judged(alpha): the folder of a bundle, and the JSON of eval; None for the base."""
    home, known = tmp_path_factory.mktemp("fashion"), {}

    def ask(alpha):
        if alpha not in known:
            out = home / f"{alpha}.edgevlm"
            derive = ("--classes", CLASSES, "--alpha", alpha, "--calib", "fashion-mnist:1000")
            more = derive if alpha else ()
            made = edgevlm("compile", "fashion-vit", "--target", "cpu", *more, "-o", out, "--json")
            assert made.status == 0, made.err
            asked = ("--dataset", "fashion-mnist", "--limit", SHOWN)
            named = () if alpha else ("--classes", CLASSES)
            told = edgevlm("eval", out, *asked, *named, "--json")
            assert told.status == 0 and told.json["n"] == SHOWN, told.err
            known[alpha] = out, told.json
        return known[alpha]

    return ask


@pytest.fixture(scope="module")
def whole():
    return load_model(bundled_folder("fashion-vit")).parts["vision"]


def accuracy(told):
    return told["overall"]["accuracy"]


def test_as_good_as_the_base_with_its_head_masked(judged):
    """At alpha 0.6 within 2 points of the fair baseline (900 pictures: 1 point is 9 of them)."""
    base, made = judged(None)[1], judged(0.6)[1]
    assert accuracy(made) >= accuracy(base["masked"]) - 0.02
    assert accuracy(made) > accuracy(base) and accuracy(base["masked"]) > accuracy(base)


def test_the_more_goes_the_less_is_right(judged):
    found = [accuracy(judged(alpha)[1]) for alpha in ALPHAS]
    assert all(more >= less - 0.01 for more, less in pairwise(found))
    assert found[0] > found[-1]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_what_ships_is_dense_and_as_small_as_was_asked(judged, whole, alpha):
    bundle = open_bundle(judged(alpha)[0])
    (artifact,) = bundle.manifest.artifacts
    part = load_graph(bundle.folder / artifact.file)
    assert count(part).macs <= (1 - alpha) * count(whole).macs
    assert not {"Where", "Mul"} & {node.op_type for node in part.graph}  # no mask is left
    for node in part.graph:
        if node.op_type == "MatMul" and (weights := node.inputs[1].const_value) is not None:
            assert all(size % 8 == 0 for size in weights.shape)
    assert [v.shape.numpy() for v in part.graph.outputs] == [(1, 3)]
