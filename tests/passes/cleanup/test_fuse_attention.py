"""fuse-attention: every way exporters write it becomes one node; what only looks like it stays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.attention import KEYS, SCALES, H, M, N, by_the_book, feeds, numbers, sized, text

from edgevlm.passes.cleanup.fuse_attention import FuseAttention

NEAR = {"rtol": 1e-4, "atol": 2e-6}


def kinds(result):
    return [n.op_type for n in result.model.parts["vision"].graph]


def node(result):
    (found,) = [n for n in result.model.parts["vision"].graph if n.op_type == "Attention"]
    return found


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rank", [3, 4])
def test_every_way_to_write_it_becomes_one_node(graph, apply, ort, keys, scale, rank):
    words = text(keys, scale, rank=rank)
    fed = feeds(keys, rank)
    result = apply(FuseAttention(), graph(words, **numbers(words)), **NEAR, **fed)
    assert not {"Softmax", "MatMul", "Mul", "Div"} & set(kinds(result))
    assert [(n.kind, n.why) for n in result.notes] == [("matched", "1 became Attention")]
    want = SCALES[scale][1]
    assert node(result).attributes["scale"].value == pytest.approx(want)
    got = ort(result.model.parts["vision"], **fed)["y"]
    np.testing.assert_allclose(got, by_the_book(fed, keys, want), rtol=1e-4, atol=1e-5)


def test_of_four_dimensions_nothing_else_is_left(graph, apply):
    """Two transposes of k in a row leave the first; a k as it is needed leaves none."""
    result = apply(FuseAttention(), graph(text("two steps")), **NEAR, **feeds("two steps"))
    assert kinds(result) == ["Transpose", "Attention", "Neg"]
    part = result.model.parts["vision"]
    assert node(result).outputs[0].name == "o" and not part.graph.initializers
    assert kinds(apply(FuseAttention(), graph(text()), **NEAR, **feeds())) == ["Attention", "Neg"]


MASKS = {  # shapes of constants, from the right; several are summed up
    "keys": [(M,)],
    "rows": [(N, 1)],
    "a number": [()],
    "one column": [(1,)],
    "whole": [(N, M)],
    "heads": [(H, N, M)],
    "heads alone": [(H, 1, 1)],
    "four": [(1, 1, N, M)],
    "four, heads": [(1, H, 1, M)],
    "two": [(N, M), (1, 1, 1, M)],
    "three": [(M,), (H, 1, 1), (N, M)],
}


@pytest.mark.parametrize("shapes", MASKS.values(), ids=list(MASKS))
@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("rank", [3, 4])
def test_masks_of_any_rank_join_it(graph, apply, ort, shapes, computed, rank):
    """Constants, or given at run time; added on either side; the scale stands in front of them."""
    shapes = [s for s in shapes if len(s) <= rank]
    if not shapes:
        shapes = [(H, N, M)]
    rng = np.random.default_rng(1)
    masks = [rng.normal(size=s).astype(np.float32) for s in shapes]
    names = [f"mask{i}" for i in range(len(masks))]
    lines, last = [], "lo"
    for i, name in enumerate(names):
        out = "lm" if i == len(names) - 1 else f"l{i}"
        lines.append(f"{out} = Add({name}, {last})" if i % 2 else f"{out} = Add({last}, {name})")
        last = out
    given_ = dict(zip(names, masks, strict=True))
    dims = {n: f"[{','.join(map(str, m.shape))}]" if m.ndim else "" for n, m in given_.items()}
    ports = "".join(f", float{size} {n}" for n, size in dims.items())
    words = text(scale="behind", masks=" ".join(lines), rank=rank, inputs=ports * computed)
    arrays = numbers(words) | ({} if computed else given_)
    fed = feeds(rank=rank) | (given_ if computed else {})
    result = apply(FuseAttention(), graph(words, **arrays), **NEAR, **fed)
    assert kinds(result).count("Attention") == 1 and "Softmax" not in kinds(result)
    got = ort(result.model.parts["vision"], **fed)["y"]
    want = by_the_book(fed, "one step", 0.3, masks)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_mask_that_hides_keys_hides_them(graph, apply, ort):
    """-inf, as exporters write it: another v there changes nothing."""
    mask = np.where(np.arange(M) < 2, 0, -np.inf).astype(np.float32)
    result = apply(FuseAttention(), graph(text(masks="lm = Add(lo, mask)"), mask=mask),
                   **NEAR, **feeds())  # fmt: skip
    fed = feeds()
    other = fed | {"v": np.where(np.arange(M)[:, None] < 2, fed["v"], 9).astype(np.float32)}
    one, two = (ort(result.model.parts["vision"], **f)["y"] for f in (fed, other))
    np.testing.assert_array_equal(one, two)


def test_q_and_k_may_be_one_value(graph, apply):
    """z z^T with z = s x: the factor counts twice, the node goes once."""
    part = graph(
        """(float[1,2,4,8] x) => (float[1,2,4,8] y) { z = Mul(x, s)
        t = Transpose<perm = [0, 1, 3, 2]>(z) p = MatMul(z, t) a = Softmax(p) y = MatMul(a, x) }""",
        s=np.float32(0.5),
    )
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 8)).astype(np.float32)
    result = apply(FuseAttention(), part, **NEAR, x=x)
    assert kinds(result) == ["Attention"]
    assert node(result).attributes["scale"].value == pytest.approx(0.25)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_variant_of_any_shape_keeps_its_function(graph, apply, ort, data):
    draw, side = data.draw, st.integers(1, 6)
    rank, keys = draw(st.sampled_from([3, 4])), draw(st.sampled_from(sorted(KEYS)))
    scale = draw(st.sampled_from(sorted(SCALES)))
    sizes = dict(zip("bhnmdw", draw(st.tuples(*[side] * 6)), strict=True))
    whole = sized("bhnm", rank, **sizes)
    last = draw(st.integers(0, rank))
    mask = tuple(draw(st.sampled_from([1, s])) for s in whole[rank - last :])
    masked = draw(st.booleans())
    words = text(keys, scale, "lm = Add(mask, lo)" if masked else "", rank, **sizes)
    arrays, masks = numbers(words), []
    fed = feeds(keys, rank, draw(st.integers(0, 99)), **sizes)
    if masked:
        masks = [np.random.default_rng(2).normal(size=mask).astype(np.float32)]
        arrays["mask"] = masks[0]
    result = apply(FuseAttention(), graph(words, **arrays), rtol=1e-3, atol=1e-4, **fed)
    assert kinds(result).count("Attention") == 1 and "Softmax" not in kinds(result)
    want = by_the_book(fed, keys, SCALES[scale][1], masks)
    got = ort(result.model.parts["vision"], **fed)["y"]
    assert math.isfinite(np.abs(got).max())
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
