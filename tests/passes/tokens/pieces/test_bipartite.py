"""Matching and merging: each piece on any numbers, against numpy."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.pieces import bipartite as piece
from edgevlm.passes.tokens.pieces.contextual import every, share_of

S, T, D = 7, 5, 4


@pytest.fixture(scope="module")
def run(graph):
    """run(make, **feeds): what `make(build, *inputs)` says, all by ONNX Runtime."""

    @functools.cache
    def session(make, ports):
        inputs = ", ".join(f"{d}[{','.join(map(str, s))}] {n}" for n, d, s in ports)
        name, dtype, shape = ports[0]
        size = ",".join(map(str, shape))
        part = graph(f"({inputs}) => ({dtype}[{size}] same) {{ same = Identity({name}) }}")
        build = GraphBuilder(part, "t")
        made = make(build, *part.graph.inputs)
        part.graph.outputs[:] = list(made) if isinstance(made, tuple) else [made]
        for n, value in enumerate(part.graph.outputs):
            value.name = f"out_{n}"
        build.finish()
        return open_session(part)

    kinds = {"f": "float", "i": "int64"}

    def call(make, **feeds):
        ports = tuple((n, kinds[v.dtype.kind], v.shape) for n, v in feeds.items())
        return session(make, ports).run(None, feeds)

    return call


rows = hnp.arrays(np.float32, (S, D), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0]))


def match(build, sources, targets):
    return piece.match(build, sources, targets)


@given(rows, rows)
def test_a_match_is_the_nearest_and_of_equals_the_first(run, sources, others):
    """Few values, so that ties are the rule."""
    targets = others[:T]
    best, to = run(match, sources=sources, targets=targets)
    near = sources @ targets.T
    assert best.tolist() == near.max(1).tolist()
    assert to.tolist() == [int(np.flatnonzero(row == row.max())[0]) for row in near]


def match_by_head(build, sources, targets):
    return piece.match(build, sources, targets, rank=3)


def test_a_match_in_three_dimensions_is_one_each(run):
    rng = np.random.default_rng(0)
    sources, targets = (rng.normal(size=(2, n, D)).astype(np.float32) for n in (S, T))
    best, to = run(match_by_head, sources=sources, targets=targets)
    for head in range(2):
        one = run(match, sources=sources[head], targets=targets[head])
        np.testing.assert_allclose(best[head], one[0], rtol=1e-6)
        assert to[head].tolist() == one[1].tolist()


@functools.cache
def remaining(left):
    return lambda build, gone: piece.remaining(build, gone, S, left)


@given(hnp.arrays(bool, S))
def test_what_remains_is_in_order(run, gone):
    left = int((~gone).sum())
    if left:
        (found,) = run(remaining(left), gone=gone.astype(np.float32))
        assert found.tolist() == np.flatnonzero(~gone).tolist()


def merged(build, index, owner, weight, tokens):
    member = piece.members(build, index, owner)
    return (*piece.merged(build, member, weight, tokens), piece.slots(build, member))


@st.composite
def partitions(draw):
    """(index ascending, owner): every token goes into one that stays, which goes into itself."""
    stays = draw(hnp.arrays(bool, S).filter(lambda a: a.any()))
    index = np.flatnonzero(stays)
    to = draw(hnp.arrays(np.int64, S, elements=st.integers(0, len(index) - 1)))
    return index, np.where(stays, np.arange(S), index[to])


@given(partitions(), st.integers(0, 99))
def test_a_mean_loses_nothing_and_one_alone_is_itself_to_the_bit(run, partition, seed):
    index, owner = partition
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(S, D)).astype(np.float32) * 1e3
    weight = rng.uniform(0.01, 9, S).astype(np.float32)
    mean, total, slot = run(merged, index=index, owner=owner, weight=weight, tokens=tokens)
    assert slot.tolist() == [index.tolist().index(o) for o in owner]
    for n, place in enumerate(index):
        those = owner == place
        wanted = np.average(tokens[those].astype(np.float64), axis=0, weights=weight[those])
        np.testing.assert_allclose(mean[n], wanted, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(total[n], weight[those].sum(), rtol=1e-5)
        if those.sum() == 1:
            assert mean[n].tolist() == tokens[place].tolist()


def test_means_of_the_largest_numbers_are_numbers(run):
    tokens = np.full((S, D), 3e38, np.float32)
    owner, ones = np.zeros(S, np.int64), np.ones(S, np.float32)
    mean, *_ = run(merged, index=np.array([0]), owner=owner, weight=ones, tokens=tokens)
    np.testing.assert_allclose(mean, 3e38, rtol=1e-5)


@given(st.integers(1, 500), st.floats(0, 0.999))
def test_a_share_of_the_budget_is_never_all_of_it(keep, share):
    few = share_of(keep, share)
    assert 0 <= few < keep
    assert (few == 0) == (keep == 1 or share == 0)
    assert few in (0, 1, keep - 1) or abs(few - share * keep) <= 0.5


@given(st.integers(1, 300), st.integers(1, 300))
def test_every_nth_is_in_the_pool_and_evenly_far(pool, picks):
    if picks <= pool:
        places = every(pool, picks)
        assert len(places) == picks and places[0] == 0 and places[-1] < pool
        assert set(np.diff(places)) <= {pool // picks}
