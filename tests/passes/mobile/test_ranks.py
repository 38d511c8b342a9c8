"""TopK and ArgMax by counting, against numpy and ONNX Runtime: ties, infinities, NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgevlm.passes.mobile.one_hot_tokens import OneHotTokens

CHOOSES = {"TopK", "ArgMax", "ArgMin"}
#: few different numbers, so that many are equal
TIED = st.sampled_from([-np.inf, -2.0, -0.0, 0.0, 1.0, 1.0000001, 3e38, np.inf])


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def kinds(part) -> list[str]:
    return [n.op_type for n in part.graph]


def lowest_first(array: np.ndarray) -> np.ndarray:
    """What is no number counts as the lowest there is."""
    return np.where(np.isnan(array), -np.inf, array)


def best(array: np.ndarray, keep: int, largest: bool = True) -> np.ndarray:
    """Places of the best along the last axis; of equal ones the lower place."""
    order = -lowest_first(array) if largest else lowest_first(array)
    return np.argsort(order, axis=-1, kind="stable")[..., :keep]


def counted(part, solo):
    result = OneHotTokens()(solo(part))
    assert not CHOOSES & set(kinds(result.model.parts["vision"]))
    assert not OneHotTokens()(result.model).changed
    return result.model.parts["vision"]


@settings(max_examples=60)
@given(data=st.data(), rows=st.integers(1, 3), count=st.integers(1, 9), largest=st.booleans())
def test_top_k_best_first(data, rows, count, largest, graph, solo, ort):
    keep = data.draw(st.integers(1, count))
    axis = data.draw(st.sampled_from([1, -1, 0]))
    shape = [rows, count] if axis else [count, rows]
    x = data.draw(arrays(np.float32, shape, elements=TIED)).astype(np.float32)
    out = [rows, keep] if axis else [keep, rows]
    part = graph(
        f"(float[{shape[0]},{shape[1]}] x) => (float[{out[0]},{out[1]}] v, int64[{out[0]},{out[1]}]"
        f" i) {{ v, i = TopK<axis={axis}, largest={int(largest)}>(x, k) }}",
        k=i64(keep),
    )
    found, told = ort(counted(part, solo), x=x), ort(part, x=x)
    for name in ("v", "i"):
        np.testing.assert_array_equal(found[name], told[name])
    along = x if axis else x.T
    wanted = best(along, keep, largest)
    np.testing.assert_array_equal(found["i"] if axis else found["i"].T, wanted)


@settings(max_examples=60)
@given(data=st.data(), count=st.integers(1, 12))
def test_the_k_best_ascending_what_is_no_number_among_them(data, count, graph, solo, ort):
    """The two TopK of passes/tokens/pieces/select.py; they are one count and one running sum."""
    keep = data.draw(st.integers(1, count))
    element = st.one_of(TIED, st.just(np.nan))
    x = data.draw(arrays(np.float32, count, elements=element)).astype(np.float32)
    part = graph(
        f"(float[{count}] x) => (int64[{keep}] i) {{ v, p = TopK<axis=0>(x, k)"
        " i, o = TopK<axis=0, largest=0>(p, k) }",
        k=i64(keep),
    )
    made = counted(part, solo)
    found = ort(made, x=x)["i"]
    np.testing.assert_array_equal(found, np.sort(best(x, keep)))
    assert kinds(made).count("Less") == 1  # one comparison with K, and no second ranking


@settings(max_examples=60)
@given(data=st.data(), op=st.sampled_from(["ArgMax", "ArgMin"]), last=st.integers(0, 1))
def test_arg_max_of_equal_ones_the_first_or_the_last(data, op, last, graph, solo, ort):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    keep = data.draw(st.integers(0, 1))
    x = data.draw(arrays(np.float32, shape, elements=TIED)).astype(np.float32)
    out = list(shape)
    out[axis] = 1
    out = out if keep else [d for i, d in enumerate(shape) if i != axis % len(shape)]
    words = [",".join(map(str, s)) for s in (shape, out)]
    part = graph(
        f"(float[{words[0]}] x) => (int64[{words[1]}] i) {{ i = {op}<axis={axis}, keepdims={keep},"
        f" select_last_index={last}>(x) }}"
    )
    np.testing.assert_array_equal(ort(counted(part, solo), x=x)["i"], ort(part, x=x)["i"])


def test_integers_of_any_size_are_compared_as_they_are(graph, solo, ort):
    """The composite keys of integer targets do not fit into float32."""
    x = 2**52 + np.array([3, 1, 2, 3, 0], np.int64)
    part = graph("(int64[5] x) => (int64[3] v, int64[3] i) { v, i = TopK<axis=0>(x, k) }", k=i64(3))
    found = ort(counted(part, solo), x=x)
    assert found["v"].tolist() == (2**52 + np.array([3, 3, 2])).tolist()
    assert found["i"].tolist() == [0, 3, 2]


@pytest.mark.parametrize(("count", "kind"), [(8, "FLOAT16"), (2048, "FLOAT16"), (2049, "FLOAT")])
def test_in_float16_counts_up_to_2048_are_exact_and_beyond_they_are_not(
    graph, solo, ort, count, kind
):
    """All scores equal: the last ranks are the largest counts there can be."""
    part = graph(
        f"(float16[{count}] x) => (int64[{count}] i) {{ v, i = TopK<axis=0>(x, k) }}", k=i64(count)
    )
    result = OneHotTokens()(solo(part))
    made = result.model.parts["vision"]
    floats = {v.dtype.name for n in made.graph for v in n.outputs if n.op_type == "MatMul"}
    assert floats == {kind}
    told = [n.why for n in result.notes if n.kind == "info"]
    assert told == ([f"counts {count} tokens: not in float16"] if kind == "FLOAT" else [])
    x = np.zeros(count, np.float16)
    assert ort(made, x=x)["i"].tolist() == list(range(count))


def test_no_number_is_looked_for_where_none_can_be(graph, solo):
    """Behind Clip(Where(IsNaN ...)), as passes/tokens/keys.py writes scores, all are numbers."""
    words = "n = IsNaN(x) w = Where(n, low, x) c = Clip(w, low, high)"
    part = graph(
        f"(float[6] x) => (int64[2] i) {{ {words} v, i = TopK<axis=0>(c, k) }}",
        k=i64(2), low=np.float32(-1e38), high=np.float32(1e38),
    )  # fmt: skip
    assert kinds(counted(part, solo)).count("IsNaN") == 1
    plain = graph("(float[6] x) => (int64[2] i) { v, i = TopK<axis=0>(x, k) }", k=i64(2))
    assert kinds(counted(plain, solo)).count("IsNaN") == 1


def test_too_many_tokens_are_refused_with_their_number(graph, solo):
    part = graph("(float[6] x) => (int64[2] i) { v, i = TopK<axis=0>(x, k) }", k=i64(2))
    result = OneHotTokens(most=5)(solo(part))
    assert not result.changed and [n.why for n in result.notes] == ["it ranks 6 tokens, over 5"]
    assert not OneHotTokens(topk=False)(solo(part)).changed
