"""Density peaks on planted clusters, and distances by the Gram matrix."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.pieces.dpc import cluster, l2_distance
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View


@pytest.fixture(scope="module")
def computed(graph):
    """computed(x, piece) -> what piece(view, features) gives, by ONNX Runtime."""

    def run(x, piece, form="ort"):
        count, width = x.shape
        part = graph(
            f"(float[{count},{width}] x) => (float[{count},{width}] y) {{ y = Identity(x) }}"
        )
        build, tokens = GraphBuilder(part, "piece"), part.graph.inputs[0]
        site = Site.at("connector-out")
        view = View(build, site, None, FORMS[form], "piece", 1, count, tokens, width)
        made = piece(view, tokens)
        values = made if isinstance(made, tuple) else (made,)
        build.finish()
        session = open_session(part, outputs=values)
        return session.run([v.name for v in values], {"x": x.astype(np.float32)})

    return run


def test_distances_are_those_of_differences(computed):
    x = np.random.default_rng(0).normal(size=(9, 5)) + 100  # a large common part, as in a decoder
    (got,) = computed(x, lambda view, value: l2_distance(view, value, 9))
    want = np.sqrt(((x[:, None] - x) ** 2).sum(-1))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
    assert (np.diag(got) == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_planted_clusters_get_a_centre_each(computed, form):
    """T7: four tight clusters, four centres, and everybody goes home."""
    rng = np.random.default_rng(1)
    home = rng.integers(0, 4, 24)
    home[:4] = np.arange(4)
    x = np.eye(4, 8)[home] * 10 + rng.normal(size=(24, 8)) * 0.1
    centre, member = computed(x, lambda v, value: cluster(v, value, 24, 4, 8), form)
    assert sorted(home[centre]) == [0, 1, 2, 3]
    assert (member.sum(0) == 1).all()
    for row, place in enumerate(centre):
        assert set(np.flatnonzero(member[row])) == set(np.flatnonzero(home == home[place]))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_equal_tokens_have_centres_all_the_same(computed, count):
    x = np.full((count, 3), 2.0)
    for centres in range(1, count + 1):
        centre, member = computed(x, lambda v, f, c=centres: cluster(v, f, count, c, 3))
        assert sorted(set(centre)) == sorted(centre) and len(centre) == centres
        assert (member.sum(0) == 1).all()
        assert (member[np.arange(centres), centre] == 1).all()  # a centre is its own


def test_what_is_far_apart_is_ranked_still(computed):
    """exp(-d^2) of such features is 0 in float32; only logarithms tell them apart."""
    x = np.random.default_rng(3).normal(size=(12, 4)) * 1e4
    centre, _ = computed(x, lambda v, value: cluster(v, value, 12, 3, 4))
    distance = np.sqrt(((x[:, None] - x) ** 2).sum(-1)) / 2
    rho = -(np.sort(distance, 1)[:, :3] ** 2).mean(1)
    lead = [min(distance[i, rho > rho[i]], default=distance.max()) for i in range(12)]
    assert centre.tolist() == np.argsort(-(rho + np.log(lead)), kind="stable")[:3].tolist()
