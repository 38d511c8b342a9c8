"""fuse-attention: every way exporters write it becomes one node; what only looks like it stays."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.cleanup.fuse_attention import FuseAttention

B, H, N, M, D, W = 1, 3, 4, 5, 8, 6  # batch, heads, rows, keys, width, width of v
NEAR = {"rtol": 1e-4, "atol": 2e-6}
#: where k comes from: its axes as letters of b h m d, and the lines that make `kt` [b,h,d,m] of k
KEYS = {
    "as it is": ("bhdm", "kt = Identity(k)"),
    "one step": ("bhmd", "kt = Transpose<perm = [0, 1, 3, 2]>(k)"),
    "with its heads": ("bmhd", "kt = Transpose<perm = [0, 2, 3, 1]>(k)"),
    "two steps": (
        "bmhd",
        "kh = Transpose<perm = [0, 2, 1, 3]>(k) kt = Transpose<perm = [0, 1, 3, 2]>(kh)",
    ),
}
#: where the scale stands: lines with it, and what it amounts to
SCALES = {
    "none": ("", 1.0),
    "q": ("qs = Mul(q, s)", 0.3),
    "q, divided": ("qs = Div(q, s)", 1 / 0.3),
    "k": ("ks = Mul(s, kt)", 0.3),
    "both": ("qs = Mul(q, s) ks = Mul(kt, s)", 0.09),
    "behind": ("ls = Mul(s, p)", 0.3),
    "behind, divided": ("ls = Div(p, s)", 1 / 0.3),
    "everywhere": ("qs = Mul(q, s) ks = Div(kt, t) ls = Mul(p, u)", 0.3 / 2 * 0.7),
}
NUMBERS = {"s": 0.3, "t": 2.0, "u": 0.7}


def sized(letters: str, rank: int, **sizes: int) -> tuple[int, ...]:
    known = {"b": B, "h": H, "n": N, "m": M, "d": D, "w": W, **sizes}
    return tuple(known[x] for x in letters if rank == 4 or x != "b")


def text(keys="one step", scale="none", masks="", rank=4, inputs="", more="", spy="", **sizes):
    """The graph as it is written; `masks` makes `lm` of `lo`."""
    letters, turn = KEYS[keys]
    if rank == 3:
        turn = re.sub(r"\[0, (.*?)]", lambda m: f"[{', '.join(str(int(p) - 1) for p in m[1].split(', '))}]", turn)  # fmt: skip
    lines = [turn, SCALES[scale][0]]
    has = [name for name in ("qs", "ks", "ls") if f"{name} = " in SCALES[scale][0]]
    q, k = ("qs" if "qs" in has else "q"), ("ks" if "ks" in has else "kt")
    product = f"p = MatMul({q}, {k})"
    if "ls" in has:  # it reads the product, so it comes behind it
        head, at, tail = SCALES[scale][0].rpartition("ls = ")
        lines = [turn, head, product, at + tail]
    else:
        lines.append(product)
    logits = "ls" if "ls" in has else "p"
    if masks:
        lines.append(masks.replace("lo", logits))
        logits = "lm"
    lines.append(f"[soft] a = Softmax<axis = -1>({logits}) {spy} o = MatMul(a, v) y = Neg(o)")
    port = {
        name: ",".join(map(str, sized(x, rank, **sizes)))
        for name, x in {"q": "bhnd", "k": letters, "v": "bhmw", "y": "bhnw"}.items()
    }
    heads = ", ".join(f"float[{port[n]}] {n}" for n in "qkv")
    return f"({heads}{inputs}) => (float[{port['y']}] y{more}) {{ {' '.join(lines)} }}"


def feeds(keys="one step", rank=4, seed=0, **sizes):
    rng = np.random.default_rng(seed)
    axes = {"q": "bhnd", "k": KEYS[keys][0], "v": "bhmw"}
    return {n: rng.normal(size=sized(x, rank, **sizes)).astype(np.float32) for n, x in axes.items()}


def numbers(words: str) -> dict[str, np.ndarray]:
    return {n: np.float32(v) for n, v in NUMBERS.items() if re.search(rf"[(, ]{n}[),]", words)}


def by_the_book(fed, keys, scale, masks=()):
    """-softmax(scale q k^T + masks) v in float64."""
    q, k, v = (fed[n].astype(np.float64) for n in "qkv")
    letters = KEYS[keys][0] if q.ndim == 4 else KEYS[keys][0].replace("b", "")
    k = np.einsum(f"{letters}->{'bhmd' if q.ndim == 4 else 'hmd'}", k)
    logits = scale * (q @ k.swapaxes(-1, -2))
    for mask in masks:
        logits = logits + mask
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return -(e / e.sum(-1, keepdims=True)) @ v


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


def refused(result, why, where="vision/soft"):
    assert not result.changed and "Attention" not in kinds(result)
    (note,) = result.notes
    assert (note.kind, note.where) == ("skipped", where) and why in note.why, note


@pytest.mark.parametrize("axis", [-2, 2, 1])
def test_a_softmax_along_another_axis_is_refused(graph, apply, axis):
    words = text().replace("axis = -1", f"axis = {axis}")
    refused(apply(FuseAttention(), graph(words), **feeds()), f"runs along axis {axis}, not the last")


def test_the_last_axis_may_be_counted_from_the_front(graph, apply):
    words = text().replace("axis = -1", "axis = 3")
    assert "Attention" in kinds(apply(FuseAttention(), graph(words), **NEAR, **feeds()))


def test_a_mask_chosen_with_where_is_refused(graph, apply):
    part = graph(text(masks="lm = Where(seen, lo, minus)"), seen=np.arange(M) < 3, minus=np.float32(-9))
    refused(apply(FuseAttention(), part, **feeds()), "its mask is chosen with Where, not added")


def test_a_mask_that_is_scaled_with_the_logits_is_refused(graph, apply):
    words = text(masks="lw = Add(lo, mask) lm = Mul(lw, s)")
    part = graph(words, s=np.float32(0.3), mask=np.ones(M, np.float32))
    refused(apply(FuseAttention(), part, **feeds()), "its mask is scaled with the logits")


def test_a_mask_that_is_a_product_itself_is_refused(graph, apply):
    words = text(masks="other = MatMul(q, rel) lm = Add(lo, other)")
    part = graph(words, rel=np.ones((D, M), np.float32))
    refused(apply(FuseAttention(), part, **feeds()), "both sides of its sum are products")


@pytest.mark.parametrize("shape", [(2, 1, 1, M), (2, H, N, M), (1, 1, 1, 1, M)])
def test_a_mask_that_makes_more_of_it_is_refused(graph, apply, shape):
    """One picture and a mask of two: the sum has two, Attention would have one."""
    made = list(np.broadcast_shapes(shape, (B, H, N, M)))
    words = text(masks="lm = Add(lo, mask)")
    outcome = ",".join(map(str, [*made[:-1], W]))
    words = words.replace(f"float[{B},{H},{N},{W}] y", f"float[{outcome}] y")
    part = graph(words, mask=np.ones(shape, np.float32))
    refused(apply(FuseAttention(), part, **feeds()), f"its mask makes [1, 3, 4, 5] into {made}")


def test_a_mask_that_makes_rows_of_one_query_is_refused(graph, apply):
    words = text(masks="lm = Add(lo, mask)", n=1).replace(f"float[1,{H},1,{W}] y", f"float[1,{H},2,{W}] y")
    part = graph(words, mask=np.ones((2, 1), np.float32))
    refused(apply(FuseAttention(), part, **feeds(n=1)), "its mask makes [1, 3, 1, 5] into [1, 3, 2, 5]")


def test_heads_that_broadcast_are_refused(graph, apply):
    """Grouped queries: three heads of q read one of k and v."""
    words = text().replace(f"float[{B},{H},{M}", f"float[{B},1,{M}")
    fed = feeds() | {n: a for n, a in feeds(h=1).items() if n != "q"}
    result = apply(FuseAttention(), graph(words), **fed)
    refused(result, "its heads broadcast: [1, 3], [1, 1], [1, 1]")


@pytest.mark.parametrize(
    ("words", "ranks"),
    [
        ("(float[4,8] x) => (float[4,8] y) { t = Transpose(x) p = MatMul(x, t)", "2, 2, 2"),
        ("(float[8] x) => (float[8] y) { p = MatMul(x, w)", "1, 2, 2"),
        ("(float[1,4,8] x) => (float[1,4,8] y) { p = MatMul(x, w)", "3, 2, 2"),
    ],
)
def test_other_ranks_are_refused(graph, apply, words, ranks):
    values = "x" if ranks == "2, 2, 2" else "values"
    words += f" [soft] a = Softmax(p) y = MatMul(a, {values}) }}"
    arrays = {"w": np.ones((8, 5), np.float32), "values": np.ones((5, 8), np.float32)}
    part = graph(words, **{n: a for n, a in arrays.items() if f", {n})" in words})
    x = np.random.default_rng(0).normal(size=tuple(part.graph.inputs[0].shape)).astype(np.float32)
    refused(apply(FuseAttention(), part, x=x), f"it works on {ranks} dimensions, not 3 or 4")


@pytest.mark.parametrize(("s", "said"), [(-0.3, "-0.3"), (0.0, "0")])
def test_a_scale_that_is_not_positive_is_refused(graph, apply, s, said):
    part = graph(text(scale="q"), s=np.float32(s))
    refused(apply(FuseAttention(), part, **feeds()), f"its scale is {said}")


def test_half_precision_is_refused(graph, solo):
    result = FuseAttention()(solo(graph(text().replace("float[", "float16["))))
    refused(result, "it works in float16")


VALUES = {"a": "1,3,4,5", "lm": "1,3,4,5", "ls": "1,3,4,5", "p": "1,3,4,5", "ks": "1,3,8,5",
          "kt": "1,3,8,5", "qs": "1,3,4,8"}  # fmt: skip


def everywhere(**more):
    words = text(scale="everywhere", masks="lm = Add(lo, mask)", **more)
    return words, numbers(words) | {"mask": np.ones(M, np.float32)}


@pytest.mark.parametrize("value", VALUES)
def test_an_inner_value_that_is_an_output_is_refused(graph, apply, value):
    words, arrays = everywhere(more=f", float[{VALUES[value]}] {value}")
    result = apply(FuseAttention(), graph(words, **arrays), **feeds())
    refused(result, f"{value}, which is inside it, is an output of the part")


@pytest.mark.parametrize("value", VALUES)
def test_an_inner_value_that_is_read_elsewhere_is_refused_with_its_reader(graph, apply, value):
    more = f", float[{VALUES[value]}] z"
    words, arrays = everywhere(more=more, spy=f"[spy] z = Abs({value})")
    result = apply(FuseAttention(), graph(words, **arrays), **feeds())
    refused(result, f"{value}, which is inside it, is read by spy as well")


def test_what_is_read_in_front_of_it_may_be_read_by_others(graph, apply):
    words = text(more=f", float[{B},{H},{N},{D}] z", spy="z = Abs(q)")
    assert "Attention" in kinds(apply(FuseAttention(), graph(words), **NEAR, **feeds()))


@pytest.mark.parametrize("line", ["y = Softmax(x)", "a = Softmax(x) y = MatMul(a, w)",
                                  "s = Sigmoid(x) a = Softmax(s) y = MatMul(a, w)"])  # fmt: skip
def test_other_uses_of_softmax_are_nothing_to_tell(graph, apply, line):
    arrays = {"w": np.ones((8, 8), np.float32)} if "w)" in line else {}
    part = graph(f"(float[1,3,4,8] x) => (float[1,3,4,8] y) {{ {line} }}", **arrays)
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 8)).astype(np.float32)
    result = apply(FuseAttention(), part, x=x)
    assert not result.changed and result.notes == ()


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
