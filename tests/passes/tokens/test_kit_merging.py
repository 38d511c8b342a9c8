"""T13 and positions: what merging keeps of all tokens, and what the kit says of a wrong method."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.passes.tokens.keys import ascending, marked
from edgevlm.passes.tokens.method import Choice, Method
from edgevlm.passes.tokens.pieces.merge import assignment, mean
from edgevlm.passes.tokens.pieces.select import spread_index

KEEP = 6


def conserved(out, count):
    """T13 of the spied outputs of one run: (sum of sizes is N, sum of size x token is kept)"""
    sizes, tokens = out["spy/sizes"], out["spy/tokens"].astype(np.float64)
    content = out.get("spy/content")
    content = tokens[out["spy/index"]] if content is None else content
    whole, parts = tokens.sum(0), (sizes[:, None] * content).sum(0)
    close = np.allclose(parts, whole, rtol=0, atol=1e-4 * max(1.0, np.abs(tokens).sum(0).max()))
    return bool(np.isclose(sizes.sum(), count)) and close


def test_t13_methods_that_count_what_they_merge_lose_nothing(method_at, put_in, host):
    placed = put_in(host(method_at[1]), *method_at, KEEP, spy=True)
    for seed in range(4):
        out = placed.run(placed.rows(seed))
        assert placed.seen["merges"] or not placed.seen["counts"], "sizes of nothing"
        if placed.seen["merges"]:
            assert out["spy/content"].shape == (KEEP, out["spy/tokens"].shape[1])
            assert np.isfinite(out["spy/content"]).all()
        if placed.seen["counts"]:
            total = out["spy/sizes"].sum()
            assert (out["spy/sizes"] >= 1 - 1e-6).all() and total <= placed.count + 1e-3
            if total > placed.count - 0.5:
                assert conserved(out, placed.count)
            else:  # what is dropped without being merged is missing; what is there is a mean
                low, high = out["spy/tokens"].min(0) - 1e-5, out["spy/tokens"].max(0) + 1e-5
                assert ((low <= out["spy/content"]) & (out["spy/content"] <= high)).all()


class Merging(Method):
    """stride, and the others into the kept ones that they are most like."""

    name, summary, sites = "merging", "for this test", ("connector-out", "llm")

    def choose(self, view):
        build = view.build
        index = build("Identity", build.const(spread_index(view.count, view.keep)))
        merged = mean()(view, index, None)
        member, _ = assignment(view, index, self.likeness(view))
        sizes = build("ReduceSum", member, build.const([1]), keepdims=0)
        return Choice(index, merged, build("Add", sizes, view.const(self.own)))

    own = 1.0

    def likeness(self, view):
        from edgevlm.passes.tokens.pieces.kernels import cosine

        return cosine(view)


class Losing(Merging):
    own = 0.0


@pytest.mark.parametrize("at", ["connector-out", "llm:2"])
def test_t13_can_fail(put_in, small, at):
    for method, right in ((Merging(), True), (Losing(), False)):
        placed = put_in(small(), method, at, KEEP, spy=True)
        out = placed.run(placed.rows(0))
        assert placed.seen == {"merges": True, "counts": True}
        assert conserved(out, placed.count) is right


class Wrong(Method):
    """A method that breaks one promise."""

    name, summary, sites = "wrong", "for this test", ("connector-out",)

    def __init__(self, index):
        super().__init__()
        self.index = index

    def choose(self, view):
        return Choice(view.build("Identity", view.build.const(self.index)))


WRONG = {
    "too few": [0, 1, 2],
    "twice": [0, 1, 1, 2, 3, 4],
    "descending": [5, 4, 3, 2, 1, 0],
    "out of range": [0, 1, 2, 3, 4, 20],
    "negative": [-1, 0, 1, 2, 3, 4],
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_method_that_breaks_its_promise_is_stopped(put_in, small, observed, kind):
    """The choice is held against the promise on every probe, whatever the method says of itself."""
    placed = put_in(small(), Wrong(WRONG[kind]), "connector-out", KEEP)
    with pytest.raises(Exception, match=r"EV208|out of bounds|indices element out of data bounds"):
        observed(placed.model)


def test_marks_and_orders_are_what_they_say(graph, ort):
    from edgevlm.compiler.builder import GraphBuilder

    part = graph("(int64[3] index) => (int64[3] same) { same = Identity(index) }")
    build, index = GraphBuilder(part, "t"), part.graph.inputs[0]
    order, marks = ascending(build, index, 3), marked(build, index, 5)
    for value, name, dtype in ((order, "order", "INT64"), (marks, "marks", "FLOAT")):
        value.name, value.dtype = name, ir.DataType[dtype]
        part.graph.outputs.append(value)
    build.finish()
    out = ort(part, index=np.array([4, 0, 3]))
    assert out["order"].tolist() == [0, 3, 4] and out["marks"].tolist() == [1, 0, 0, 1, 1]


def test_run_ends_keep_every_law(own_at, place, hostile):
    """The policy takes slots of the budget from any method; exactly K come out all the same."""
    placed = place(*own_at, 12, position="run-end-pad")
    assert placed.method.least(placed.site) <= 9, "a larger miniature is needed"
    for name in ("random", "constant", "duplicates", "nan somewhere", "inf and nan"):
        index = placed.choose(hostile(placed.count, placed.width)[name])
        assert len(index) == 12 and (np.diff(index) > 0).all()
        assert index[0] >= 0 and index[-1] < placed.count
