"""Greedy log-determinant: incremental steps against whole determinants, in every form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.pieces.dpp import max_volume
from edgevlm.passes.tokens.view import View


@pytest.fixture(scope="module")
def volume(graph):
    def run(kernel, keep, form="ort", **worth):
        n = len(kernel)
        part = graph(f"(float[{n},{n}] kernel) => (float[{n},{n}] y) {{ y = Identity(kernel) }}")
        build = GraphBuilder(part, "dpp")
        form = FORMS[form] if isinstance(form, str) else form
        view = View(build, None, None, form, "dpp", keep, n, None, 1)
        part.graph.outputs[0] = max_volume(view, part.graph.inputs[0], **worth)
        build.finish()
        index = open_session(part).run(None, {"kernel": kernel.astype(np.float32)})[0]
        return index, view, len(list(part.graph))

    return run


def gram(seed, count, width, ridge=0.0):
    rows = np.random.default_rng(seed).normal(size=(count, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T + ridge * np.eye(count)


def greedy(kernel, keep):
    taken = []
    for _ in range(keep):
        rest = [i for i in range(len(kernel)) if i not in taken]
        volumes = [np.linalg.slogdet(kernel[np.ix_(*[[*taken, i]] * 2)])[1] for i in rest]
        taken.append(rest[int(np.argmax(np.round(volumes, 9)))])
    return sorted(taken)


@pytest.mark.parametrize("form", ["ort", "tensorrt", "fpga"])
@pytest.mark.parametrize(("count", "width", "keep"), [(24, 40, 10), (17, 16, 16), (40, 64, 1)])
def test_each_step_takes_the_largest_determinant(volume, form, count, width, keep):
    for seed in range(4):
        kernel = gram(seed, count, width, ridge=1e-2 if form == "fpga" else 0)
        assert volume(kernel, keep, form)[0].tolist() == greedy(kernel, keep)


def test_a_step_is_few_nodes_however_many_came_before(volume):
    kernel = gram(0, 80, 96)
    nodes = [volume(kernel, keep)[2] for keep in (10, 20, 70)]
    assert nodes[1] - nodes[0] == 160 and nodes[2] - nodes[1] == 5 * (nodes[1] - nodes[0])


def test_a_short_chain_takes_several_a_step_and_says_so(volume):
    kernel = gram(1, 40, 64)
    form = replace(FORMS["tensorrt"], steps=4)
    index, view, _ = volume(kernel, 14, form)
    assert len(set(index)) == 14 and view.notes == [
        "14 greedy picks in 4 steps of up to 4: a blocked stand-in"
    ]
    exact = greedy(kernel, 14)

    def det(chosen):
        return np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])[1]

    drawn = [np.random.default_rng(s).permutation(40)[:14] for s in range(20)]
    assert np.mean([det(d) for d in drawn]) < det(index) <= det(exact)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_exactly_k_whatever_the_rank(volume, data):
    """Duplicates, empty tokens, and more picks than the rank of the kernel."""
    count = data.draw(st.integers(1, 12))
    keep, rank = data.draw(st.integers(1, count)), data.draw(st.integers(0, 3))
    rows = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-2, 3, (count, 3))
    rows = rows * (np.arange(3) < rank)
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    rows = rows / length
    form = data.draw(st.sampled_from(["ort", "tensorrt", "fpga"]))
    index = volume(rows @ rows.T, keep, form)[0]
    assert len(index) == keep and (np.diff(index) > 0).all() and index[-1] < count


def test_equal_gains_go_to_the_lower_index(volume):
    for form in ("ort", "tensorrt", "fpga"):
        assert volume(np.eye(9), 4, form)[0].tolist() == [0, 1, 2, 3]
        assert volume(np.zeros((9, 9)), 4, form)[0].tolist() == [0, 1, 2, 3]
        assert volume(np.ones((9, 9)), 4, form)[0].tolist() == [0, 1, 2, 3]
