"""Rows of one attention merged head by head: against loops in float64, and laws for any numbers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.merged_attention import merged_attention
from edgevlm.passes.tokens.pieces.block_plan import plan_blocks
from edgevlm.passes.tokens.pieces.headwise import HeadwiseMerge

QUERIES = {"block": 8, "share": 0.9, "targets": 0.25, "back": 0.1}
KEYS = {"block": 8, "share": 0.5, "targets": 0.25}
HEADS, ROWS, START, COUNT, WIDTH = 3, 24, 2, 21, 5  # three blocks of seven, one row behind


def _reference():
    path = Path(__file__).parents[1] / "merged.py"
    spec = importlib.util.spec_from_file_location("token_merged", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()


def plan(side, rows=ROWS, start=START, count=COUNT):
    made = plan_blocks(rows, start, count, **side)
    return made if made.left < made.rows else None


@pytest.fixture(scope="module")
def attention(graph):
    """attention(queries, keys, ...) -> run(q, k, v) [H,L,d]; every session is made once."""
    made = {}

    def make(queries=None, keys=None, form="ort", proportional=True, group=1, flat=False, **sizes):
        key = (str(queries), str(keys), form, proportional, group, flat, str(sizes))
        rows, scale = sizes.get("rows", ROWS), sizes.pop("scale", None)
        if key not in made:
            q, k = (HEADS * group, rows, WIDTH), (HEADS, rows, WIDTH)
            shapes = [(s[1], s[0] * s[2]) if flat else s for s in (q, k, k)]
            ports = [
                f"float[1,{','.join(map(str, s))}] {n}" for s, n in zip(shapes, "qkv", strict=True)
            ]
            said = "is_causal = 0"
            said += f", q_num_heads = {q[0]}, kv_num_heads = {k[0]}" if flat else ""
            said += f", scale = {scale}" if scale else ""
            out = ports[0].replace(" q", " y")
            body = f"a = Attention<{said}>(q, k, v) y = Identity(a)"
            part = graph(f"({', '.join(ports)}) => ({out}) {{ {body} }}")
            build = GraphBuilder(part, "merge")
            node = next(n for n in part.graph if n.op_type == "Attention")
            plans = [side and plan(side, **sizes) for side in (queries, keys)]
            merged_attention(build, FORMS[form], node, *plans, proportional)
            part.graph.remove(node, safe=True)
            build.finish()
            analyse(part.graph)
            made[key] = open_session(part)
        session = made[key]

        def run(q, k, v):
            feeds = {n: x[None].astype(np.float32) for n, x in zip("qkv", (q, k, v), strict=True)}
            if flat:
                feeds = {n: x.transpose(0, 2, 1, 3).reshape(1, rows, -1) for n, x in feeds.items()}
            y = session.run(None, feeds)[0]
            return y.reshape(rows, len(q), WIDTH).transpose(1, 0, 2) if flat else y[0]

        return run

    return make


def rows_of(seed, heads=HEADS, rows=ROWS):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(n, rows, WIDTH)) for n in (heads, HEADS, HEADS))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("queries", "keys"),
    [(QUERIES, KEYS), (QUERIES, None), (None, KEYS), (KEYS | {"back": 0.2}, QUERIES | {"back": 0})],
)
@pytest.mark.parametrize("proportional", [True, False])
def test_it_is_what_loops_say(attention, queries, keys, proportional, seed):
    q, k, v = rows_of(seed)
    groups = [
        reference.sides(x, START, COUNT, **(side or {})) for x, side in ((q, queries), (k, keys))
    ]
    wanted = reference.attend(q, k, v, *groups, proportional=proportional)
    found = attention(queries, keys, proportional=proportional)(q, k, v)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    plain = attention_of(q, k, v)
    assert np.abs(found - plain).max() > 0.05  # and merging does do something


def attention_of(q, k, v):
    alone = [[[row] for row in range(q.shape[1])]] * len(q)
    return reference.attend(q, k, v, alone, alone)


@pytest.mark.parametrize("flat", [True, False])
def test_shared_keys_and_channels_of_all_heads_in_one(attention, flat):
    q, k, v = rows_of(5, heads=2 * HEADS)
    groups = [reference.sides(x, START, COUNT, **s) for x, s in ((q, QUERIES), (k, KEYS))]
    found = attention(QUERIES, KEYS, group=2, flat=flat)(q, k, v)
    np.testing.assert_allclose(found, reference.attend(q, k, v, *groups), atol=2e-5)


def test_the_scale_stays(attention):
    q, k, v = rows_of(6)
    groups = [reference.sides(x, START, COUNT, **s) for x, s in ((q, QUERIES), (k, KEYS))]
    found = attention(QUERIES, KEYS, scale=0.125)(q, k, v)
    np.testing.assert_allclose(found, reference.attend(q, k, v, *groups, scale=0.125), atol=2e-5)


@given(seed=st.integers(0, 2**16), start=st.integers(0, 2), block=st.sampled_from([8, 12, 30]))
@settings(max_examples=30, deadline=None)
def test_equal_rows_merge_without_a_trace(attention, seed, start, block):
    """Every source of a block is one of its targets again, in each head another."""
    side = {"block": block, "share": 0.75, "targets": 0.25}
    count = ROWS - start
    made, rng = plan(side, start=start, count=count), np.random.default_rng(seed)
    targets, sources = made.places()
    q, k, v = rows_of(seed)
    for h in range(HEADS):
        for first in made.inner[:, 0]:
            twin = first + rng.choice(targets, len(sources))
            for x in (q, k, v):
                x[h, first + sources] = x[h, twin]
    whole = {"start": start, "count": count}
    found = attention(side | {"back": 0.1}, side, **whole)(q, k, v)
    np.testing.assert_allclose(found, attention_of(q, k, v), atol=1e-4)
    uncounted = attention(side | {"back": 0.1}, side, proportional=False, **whole)(q, k, v)
    assert np.abs(uncounted - found).max() > 1e-3


def test_heads_do_not_know_of_one_another(attention):
    q, k, v = rows_of(7)
    found = attention(QUERIES, KEYS)(q, k, v)
    q[0], k[0] = rows_of(8)[0][0], rows_of(8)[1][0]
    other = attention(QUERIES, KEYS)(q, k, v)
    np.testing.assert_array_equal(found[1:], other[1:])
    assert np.abs(found[0] - other[0]).max() > 0.01
    turned = attention(QUERIES, KEYS)(q[::-1], k[::-1], v[::-1])
    np.testing.assert_allclose(turned[::-1], other, atol=1e-6)


@pytest.fixture(scope="module")
def slots(graph):
    """slots(side, form) -> run(x [H,L,d]) -> (slots [H,L], rows [H,L',d], sizes [H,L'] or None)."""
    made = {}

    def make(side, form="ort"):
        if (str(side), form) not in made:
            shape = f"float[1,{HEADS},{ROWS},{WIDTH}]"
            part = graph(f"({shape} x) => ({shape} y) {{ y = Identity(x) }}")
            build = GraphBuilder(part, "merge")
            merge = HeadwiseMerge(build, FORMS[form], plan(side), part.graph.inputs[0])
            outs = [merge.slots, merge.rows(part.graph.inputs[0]), merge.sizes()]
            build.finish()
            part.graph.outputs.clear()
            part.graph.outputs.extend(outs)
            made[str(side), form] = open_session(part)
        return lambda x: made[str(side), form].run(None, {"x": x[None].astype(np.float32)})

    return make


VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)
ANY = hn.arrays(np.float32, (HEADS, ROWS, WIDTH), elements=VALUES, fill=st.just(0.0))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", [QUERIES, KEYS, KEYS | {"back": 0.3}], ids=str)
@given(x=ANY)
@settings(max_examples=25, deadline=None)
def test_the_counts_are_exact_whatever_the_numbers_are(slots, side, form, x):
    made = plan(side)
    slot, rows, sizes = slots(side, form)(x)
    assert rows.shape == (1, HEADS, made.left, WIDTH)
    targets, _ = made.places()
    lead = made.inner[:, targets].reshape(-1)
    for h in range(HEADS):
        counted = np.bincount(slot[h], minlength=made.left)
        assert len(counted) == made.left and (counted >= 1).all()
        assert (counted[made.means :] == 1).all()
        np.testing.assert_array_equal(slot[h, lead], np.arange(made.means))
        np.testing.assert_array_equal(slot[h, made.fixed], made.means + np.arange(len(made.fixed)))
        np.testing.assert_array_equal(sizes[h], counted)
        block = (np.arange(ROWS) - made.start) // made.size
        merged = slot[h] < made.means
        np.testing.assert_array_equal(slot[h][merged] // made.targets, block[merged])
    again = slots(side, form)(x)
    np.testing.assert_array_equal(slot, again[0])


@pytest.mark.parametrize("form", [f for f in FORMS if f != "ort"])
def test_every_form_merges_the_same(slots, form):
    for seed in range(4):
        x = rows_of(seed)[0]
        same = slots(QUERIES, form)(x)[0] == slots(QUERIES)(x)[0]
        assert same.mean() > 0.95


@given(
    count=st.integers(1, 700), start=st.integers(0, 5), behind=st.integers(0, 3),
    block=st.integers(2, 200), share=st.floats(0, 0.99), targets=st.floats(0.01, 0.99),
    back=st.floats(0, 0.99),
)  # fmt: skip
def test_a_plan_adds_up(count, start, behind, block, share, targets, back):
    made = plan_blocks(
        start + count + behind, start, count, block=block, share=share, targets=targets, back=back
    )
    targets_at, sources_at = made.places()
    assert made.size <= block and made.blocks * made.size <= count
    assert count - made.blocks * made.size < made.blocks  # what no block holds
    assert len(targets_at) == made.targets >= 1 and len(sources_at) == made.sources >= made.gone
    assert made.left == len(made.fixed) + made.means + made.blocks * made.alone + made.back
    assert made.left >= made.rows - made.blocks * (made.size - 1) and made.back <= count
    assert abs(made.gone - share * made.size) <= 1
