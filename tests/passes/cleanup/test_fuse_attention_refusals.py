"""fuse-attention: what only looks like attention, or is read elsewhere, stays and is told."""

from __future__ import annotations

import numpy as np
import pytest
from micro.attention import B, D, H, M, N, W, feeds, numbers, text

from edgevlm.passes.cleanup.fuse_attention import FuseAttention

NEAR = {"rtol": 1e-4, "atol": 2e-6}


def kinds(result):
    return [n.op_type for n in result.model.parts["vision"].graph]


def refused(result, why, where="vision/soft"):
    assert not result.changed and "Attention" not in kinds(result)
    (note,) = result.notes
    assert (note.kind, note.where) == ("skipped", where) and why in note.why, note


@pytest.mark.parametrize("axis", [-2, 2, 1])
def test_a_softmax_along_another_axis_is_refused(graph, apply, axis):
    words = text().replace("axis = -1", f"axis = {axis}")
    refused(
        apply(FuseAttention(), graph(words), **feeds()), f"runs along axis {axis}, not the last"
    )


def test_the_last_axis_may_be_counted_from_the_front(graph, apply):
    words = text().replace("axis = -1", "axis = 3")
    assert "Attention" in kinds(apply(FuseAttention(), graph(words), **NEAR, **feeds()))


def test_a_mask_chosen_with_where_is_refused(graph, apply):
    part = graph(
        text(masks="lm = Where(seen, lo, minus)"), seen=np.arange(M) < 3, minus=np.float32(-9)
    )
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
    words = text(masks="lm = Add(lo, mask)", n=1).replace(
        f"float[1,{H},1,{W}] y", f"float[1,{H},2,{W}] y"
    )
    part = graph(words, mask=np.ones((2, 1), np.float32))
    refused(
        apply(FuseAttention(), part, **feeds(n=1)), "its mask makes [1, 3, 1, 5] into [1, 3, 2, 5]"
    )


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
