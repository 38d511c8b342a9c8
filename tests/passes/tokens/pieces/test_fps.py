"""Farthest points and what their span leaves: beside a solved problem, and where they run out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.pieces.fps import farthest, residual
from edgevlm.passes.tokens.view import View


@pytest.fixture(scope="module")
def ask(graph):
    """(places in the order in which they are taken, what their span leaves)"""

    def run(z, picks, form=FORMS["ort"]):
        n, d = z.shape
        part = graph(f"(float[{n},{d}] z) => (float[{n},{d}] y) {{ y = Identity(z) }}")
        build = GraphBuilder(part, "fps")
        view = View(build, None, None, form, "fps", picks, n, part.graph.inputs[0], d)
        places = farthest(view, view.tokens, picks)
        left = residual(view, view.tokens, places)
        part.graph.outputs[0] = build("Concat", *places, axis=0) if picks > 1 else places[0]
        part.graph.outputs.append(left)
        build.finish()
        return open_session(part).run(None, {"z": z.astype(np.float32)})

    return run


def test_the_residual_is_that_of_least_squares(ask):
    for seed in range(5):
        z = np.random.default_rng(seed).normal(size=(30, 12))
        for picks in (1, 4, 11):
            places, left = ask(z, picks)
            basis = z[places].T
            fit = basis @ np.linalg.lstsq(basis, z.T, rcond=None)[0]
            np.testing.assert_allclose(left, np.linalg.norm(z - fit.T, axis=1), atol=2e-5)
            assert np.abs(left[places]).max() < 1e-5


def test_each_place_is_the_farthest_from_those_before(ask):
    for seed in range(5):
        z = np.random.default_rng(seed).normal(size=(25, 6))
        places = ask(z, 9)[0]
        assert places[0] == np.argmax(((z - z.mean(0)) ** 2).sum(1))
        for i in range(1, 9):
            near = ((z[:, None] - z[places[:i]][None]) ** 2).sum(-1).min(1)
            assert np.isclose(near[places[i]], near.max(), rtol=1e-5)


@pytest.mark.parametrize("form", ["ort", "tensorrt", "fpga"])
def test_equal_tokens_are_taken_once_each(ask, form):
    for z in (np.zeros((6, 4)), np.ones((6, 4)), np.repeat(np.eye(3), 2, 0)):
        places, left = ask(z, 5, FORMS[form])
        assert len(set(places.tolist())) == 5 and np.isfinite(left).all()


def test_a_short_chain_takes_several_at_once(ask):
    z = np.random.default_rng(0).normal(size=(25, 6))
    places = ask(z, 9, replace(FORMS["tensorrt"], steps=2))[0]
    assert len(set(places.tolist())) == 9
    order = np.argsort(-((z - z.mean(0)) ** 2).sum(1))
    assert sorted(places[:5].tolist()) == sorted(order[:5].tolist())
