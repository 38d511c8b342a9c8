"""Farthest-point choice with weights: in numpy, and at both ends of the knob (T8)."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.pieces.greedy import max_min
from edgevlm.passes.tokens.pieces.kernels import cosine_distance
from edgevlm.passes.tokens.pieces.scores import raised
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

COUNT, WIDTH = 24, 6


@pytest.fixture(scope="module")
def chosen(graph):
    """chosen(tokens [24,6], weight [24], keep, alpha) -> places [keep]."""

    @functools.cache
    def session(keep, alpha):
        part = graph(
            f"(float[{COUNT},{WIDTH}] x, float[{COUNT}] w) => (float[{COUNT}] same)"
            "{ same = Identity(w) }"
        )
        build = GraphBuilder(part, "select")
        tokens, weight = part.graph.inputs
        site = Site.at("connector-out")
        view = View(build, site, None, FORMS["ort"], "test", keep, COUNT, tokens, WIDTH)
        select = max_min(raised(lambda _: weight, alpha))
        part.graph.outputs[0] = select(view, None, cosine_distance(view))
        build.finish()
        return open_session(part)

    def run(x, w, keep, alpha):
        fed = {"x": x.astype(np.float32), "w": w.astype(np.float32)}
        return session(keep, alpha).run(None, fed)[0].tolist()

    return run


def by_hand(x, w, keep, alpha):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    gain, d = np.maximum((w / w.max()) ** alpha, 1e-9), 1 - unit @ unit.T
    taken = [int(np.argmax(gain))]
    while len(taken) < keep:
        worth = gain * d[:, taken].min(1)
        worth[taken] = -np.inf
        taken.append(int(np.argmax(worth)))
    return sorted(taken)


def drawn(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(COUNT, WIDTH)), rng.uniform(0.05, 1, COUNT), rng


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 9]), st.sampled_from([0.0, 0.8, 3.0]))
def test_it_is_what_numpy_chooses(chosen, seed, keep, alpha):
    x, w, _ = drawn(seed)
    assert chosen(x, w, keep, alpha) == by_hand(x, w, keep, alpha)


def test_t8_weight_0_is_farthest_point_sampling_from_the_first_token(chosen):
    for seed in range(10):
        x, w, _ = drawn(seed)
        assert chosen(x, w, 9, 0.0) == by_hand(x, np.ones(COUNT), 9, 1.0)


def test_t8_a_great_power_is_topk(chosen):
    """Salience falls by 8 from token to token, distances differ by less than 8^3."""
    for seed in range(10):
        x, _, rng = drawn(seed)
        order = rng.permutation(COUNT)
        w = np.zeros(COUNT)
        w[order] = 8.0 ** -np.arange(COUNT)
        assert chosen(x, w, 4, 3.0) == sorted(order[:4].tolist())


def test_a_common_factor_of_the_weights_changes_nothing(chosen):
    x, w, _ = drawn(3)
    assert chosen(x, w * 1e-20, 9, 0.8) == chosen(x, w * 1e20, 9, 0.8) == chosen(x, w, 9, 0.8)
