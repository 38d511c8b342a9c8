"""Each reason to stay float32, provoked by a small graph, and named in the notes."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.passes.precision.cast_half import SHOWN
from edgevlm.passes.precision.stays import Why, stay_float

RNG = np.random.default_rng(0)
W = RNG.normal(size=(8, 8)).astype(np.float32)
ONES, ZEROS = np.ones(8, np.float32), np.zeros(8, np.float32)

STREAM = """(float[1,4,8] x) => (float[1,4,8] y) {
    [res] r = Add(x, x) [norm] n = LayerNormalization(r, s, b)
    [up] a = MatMul(n, w) [act] g = Relu(a) [down] d = MatMul(g, w) [out] y = Add(r, d) }"""
SCORES = """(float[1,4,8] q, float[1,8,4] k, bool[4,4] m) => (float[1,4,4] y) {
    [qk] s = MatMul(q, k) [wall] w = Where(m, zero, never) [sum] t = Add(s, w)
    [soft] p = Softmax<axis = AXIS>(t) [out] y = Mul(p, half) }"""


def stream(graph):
    return graph(STREAM, s=ONES, b=ZEROS, w=W)


def scores(graph, never=-32768.0, axis=-1):
    numbers = {"zero": 0.0, "never": never, "half": 0.5}
    arrays = {name: np.float32(value) for name, value in numbers.items()}
    return graph(SCORES.replace("AXIS", str(axis)), **arrays)


def db(wanted, found):
    wanted = wanted.astype(np.float64)
    return 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())


def asked(size, rows=0, seed=1):
    """q, k, and who may look where; in the first `rows` nobody may."""
    rng = np.random.default_rng(seed)
    may = np.tri(4, dtype=bool)
    may[:rows] = False
    q, k = ((rng.normal(size=s) * size).astype(np.float32) for s in ((1, 4, 8), (1, 8, 4)))
    return {"q": q, "k": k, "m": may}


def test_a_large_residual_stream_stays_and_what_lies_beside_it_does_not(
    graph, halved, kinds, told, ort
):
    part, feed = stream(graph), {"x": RNG.normal(size=(1, 4, 8)).astype(np.float32) * 1e5}
    result = halved(part, feed)
    assert told(result) == [("vision: res, norm, out", f"float32: {Why.LARGE.value}")]
    found = kinds(result)
    assert {found[n] for n in ("res", "norm", "out")} == {"FLOAT"}
    assert {found[n] for n in ("up", "act", "down")} == {"FLOAT16"}
    wanted = ort(part, **feed)["y"]
    assert db(wanted, ort(result.model.parts["vision"], **feed)["y"]) > 90  # d is small beside r
    blind = halved(part).model.parts["vision"]  # nothing was seen, and so nothing is large
    assert not np.isfinite(ort(blind, **feed)["y"]).all()


@pytest.mark.parametrize(
    ("size", "headroom", "large"),
    [(8180, 8.0, False), (8200, 8.0, True), (60000, 1.0, False), (60000, 8.0, True),
     (66000, 1.0, True), (100, 1024.0, True), (60, 1024.0, False)],
)  # fmt: skip
def test_headroom_is_what_may_come_above_what_was_seen(graph, halved, told, size, headroom, large):
    part = graph("(float[1,4] x) => (float[1,4] y) { [n] y = Neg(x) }")
    feed = {"x": np.array([[0, 1, -size, 2]], np.float32)}
    assert told(halved(part, feed, headroom=headroom)) == (
        [("vision: n", f"float32: {Why.LARGE.value}")] if large else []
    )


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_counts_as_large(graph, halved, told, odd):
    part = graph("(float[1,4] x) => (float[1,4] y) { [n] a = Neg(x) [t] y = Tanh(a) }")
    feeds = [{"x": np.ones((1, 4), np.float32)}, {"x": np.float32([[1, odd, 1, 1]])}]
    assert told(halved(part, feeds[0])) == []
    ((where, why),) = told(halved(part, *feeds))
    assert where.startswith("vision: n") and why.endswith(Why.LARGE.value)


@pytest.mark.parametrize("size", [1, 40])
def test_the_mask_of_a_softmax_is_not_large(graph, halved, told, ort, size):
    part, feed = scores(graph), asked(size)
    result = halved(part, feed)
    assert told(result) == []
    wanted = ort(part, **feed)["y"]
    assert np.abs(ort(result.model.parts["vision"], **feed)["y"] - wanted).max() < 5e-4 * size


def test_scores_high_above_are_large(graph, halved, told):
    ((where, why),) = told(halved(scores(graph), asked(100)))
    assert "qk" in where and why.endswith(Why.LARGE.value)


@pytest.mark.parametrize("never", [-1e9, -3.4e38])
def test_a_mask_that_float16_has_not_stays_and_its_softmax_does_not(
    graph, halved, kinds, told, ort, never
):
    part, feed = scores(graph, never), asked(1)
    result = halved(part, feed)
    assert told(result) == [("vision: wall", f"float32: {Why.CONSTANT.value}")]
    assert kinds(result)["soft"] == "FLOAT16"
    found = ort(result.model.parts["vision"], **feed)["y"]
    np.testing.assert_allclose(found, ort(part, **feed)["y"], atol=1e-3)


def test_a_row_that_may_look_at_nothing_is_still_one_of_numbers(graph, halved, told, ort):
    """All of it is -1e9; in float16 it would be -inf less -inf."""
    part, feed = scores(graph, -1e9), asked(1, rows=2)
    result = halved(part, feed)
    assert ("vision: sum, soft", f"float32: {Why.LARGE.value}") in told(result)
    found = ort(result.model.parts["vision"], **feed)["y"]
    np.testing.assert_allclose(found, ort(part, **feed)["y"], atol=1e-3)
    assert np.isfinite(found).all()


LOW = np.float32([0, 1, 2, 9])  # times -1e4: far below the rest of its row


@pytest.mark.parametrize(
    ("body", "score"),
    [
        ("[s] y = Softmax(a)", True),
        ("[p] b = Add(a, x) [s] y = Softmax(b)", True),
        ("[s] y = Softmax<axis = 1>(a)", False),  # over columns: rows say nothing
        ("[s] b = Softmax(a) [o] y = Add(a, b)", False),  # read as a number as well
        ("[p] b = Add(a, x) [s] c = Softmax(b) [q] e = Add(a, c) [o] y = Tanh(e)", False),
    ],
)
def test_what_is_more_than_a_score_is_seen_as_a_number(graph, halved, told, body, score):
    text = "(float[1,2,4] x) => (float[1,2,4] y) { [n] a = Mul(x, low) " + body + " }"
    found = told(halved(graph(text, low=np.float32(-1e4)), {"x": np.tile(LOW, (1, 2, 1))}))
    assert [(w[:9], y.endswith(Why.LARGE.value)) for w, y in found] == (
        [] if score else [("vision: n", True)]
    )


def test_scores_that_are_an_output_are_seen_as_numbers(graph, halved, told):
    text = "(float[1,4] x) => (float[1,4] a, float[1,4] y) { [n] a = Mul(x, c) [s] y = Softmax(a) }"
    result = halved(graph(text, c=np.float32(-1e4)), {"x": LOW[None]})
    assert told(result) == [("vision: n, s", f"float32: {Why.LARGE.value}")]


def test_angles_of_large_positions_stay_and_what_turns_by_them_does_not(
    graph, halved, kinds, told, ort
):
    part = graph(
        """(float[1,4] x, int64[1,4] p) => (float[1,4] y) { [cast] f = Cast<to = 1>(p)
        [times] t = Mul(f, w) [cos] c = Cos(t) [sin] s = Sin(t) [a] u = Mul(x, c)
        [b] v = Mul(x, s) [out] y = Add(u, v) }""",
        w=np.float32([1.0, 0.3, 0.1, 0.01]),
    )
    feed = {"x": np.ones((1, 4), np.float32), "p": np.array([[3001, 4003, 5007, 6011]])}
    result = halved(part, feed)
    ((where, why),) = told(result)
    assert where == "vision: cast, times, cos and 1 more" and why.endswith(Why.ANGLE.value)
    assert SHOWN == 3
    found = kinds(result)
    assert [found[n] for n in ("cos", "sin", "a", "b", "out")] == ["FLOAT"] * 2 + ["FLOAT16"] * 3
    wanted = ort(part, **feed)["y"]
    assert np.abs(ort(result.model.parts["vision"], **feed)["y"] - wanted).max() < 3e-3


def test_what_only_decides_stays(graph, halved, kinds, told, ort):
    """Two scores that differ in their sixth digit, as float16 would not have them."""
    part = graph(
        """(float[1,4] x, float[1,4] s) => (float[1,2] y) { [twice] t = Add(s, s)
        [top] v, i = TopK(t, k) [take] y = GatherElements<axis = 1>(x, i) }""",
        k=np.array([2]),
    )
    feed = {"x": np.float32([[1, 2, 3, 4]]), "s": np.float32([[1, 1.00001, 1.00002, 0.5]])}
    result = halved(part, feed)
    assert told(result) == [("vision: twice, top", f"float32: {Why.DECIDING.value}")]
    assert kinds(result)["take"] == "FLOAT16"
    assert ort(result.model.parts["vision"], **feed)["y"].tolist() == [[3, 2]]


def test_a_score_that_is_also_read_as_a_number_is_half(graph, halved, told):
    part = graph(
        """(float[1,4] s) => (float[1,2] v, int64[1,2] i) {
        [top] v, i = TopK(s, k) }""",
        k=np.array([2]),
    )
    assert told(halved(part)) == []


@pytest.mark.parametrize(
    ("number", "lost"),
    [(1e-12, True), (-1e9, True), (1e-5, False), (1e-6, True), (65504, False), (7e4, True),
     (0.1, False), (0, False), (-np.inf, False)],
)  # fmt: skip
def test_a_number_that_float16_has_not(graph, halved, told, number, lost):
    part = graph("(float[1,4] x) => (float[1,4] y) { [a] y = Max(x, c) }", c=np.float32(number))
    with np.errstate(over="raise", invalid="raise"):
        found = told(halved(part))
    assert found == ([("vision: a", f"float32: {Why.CONSTANT.value}")] if lost else [])


@pytest.mark.parametrize(("shape", "lost"), [((8,), False), ((2, 8), False)])
def test_small_weights_may_become_nothing_and_large_ones_not(graph, halved, told, shape, lost):
    text = "(float[2,8] x) => (float[2,8] y) { [a] y = Mul(x, c) }"
    tiny, large = (np.full(shape, 1.0, np.float32) for _ in range(2))
    tiny.flat[0], large.flat[0] = 1e-9, 1e5
    assert told(halved(graph(text, c=tiny))) == []
    assert told(halved(graph(text, c=large))) == [("vision: a", f"float32: {Why.CONSTANT.value}")]


def test_what_fills_a_tensor_is_a_constant_too(graph, halved, told, kinds):
    text = """(float[2] x) => (float[2] y) {
        [fill] c = ConstantOfShape<value = float[1] {%s}>(n) [add] y = Max(x, c) }"""
    for number, lost in (("-1e9", True), ("-2.5", False)):
        result = halved(graph(text % number, n=np.array([2])))
        assert [where for where, _ in told(result)] == (["vision: fill"] if lost else [])
        assert kinds(result)["add"] == "FLOAT16"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("[celu] a = Celu(x) [t] y = Tanh(a)", "celu"),
        ("[norm] a, m = LayerNormalization(x, s) [t] y = Mul(a, m)", "norm"),
        ("[odd] a = ai.elsewhere.Odd(x) [t] y = Tanh(a)", "odd"),
    ],
)
def test_an_op_that_has_no_half(graph, halved, told, kinds, body, name):
    arrays = {"s": ONES} if "(x, s)" in body else {}
    part = graph("(float[1,2,8] x) => (float[1,2,8] y) { " + body + " }", **arrays)
    odd = part.graph.node(0)
    if odd.domain:  # nobody infers what ops of others give
        odd.outputs[0].type, odd.outputs[0].shape = odd.inputs[0].type, odd.inputs[0].shape
    result = halved(part)
    assert told(result) == [(f"vision: {name}", f"float32: {Why.OP.value}")]
    assert kinds(result)["t"] == "FLOAT16"


def test_the_first_reason_that_holds_is_told(graph):
    """An angle that decides, by a constant that is lost, in an op with no half, is an op."""
    part = graph(
        """(float[1,8] x) => (int64[1,1] y) { [celu] a = Celu(x) [c] b = Mul(a, tiny)
        [cos] d = Cos(b) [add] e = Add(d, tiny) [top] y = ArgMax<axis = 1>(e) }""",
        tiny=np.float32(1e-12),
    )
    found = {str(node.name): why for node, why in stay_float(part).items()}
    assert found == {
        "celu": Why.OP, "c": Why.ANGLE, "cos": Why.ANGLE, "add": Why.DECIDING, "top": Why.DECIDING,
    }  # fmt: skip
