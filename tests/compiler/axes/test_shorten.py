"""Part of a graph works on fewer rows: region, borders, indices, masks, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.axes.shorten import Places, Region, behind, shorten
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault

ROWS, KEPT, D = 6, 4, 3
STAY = np.array([0, 2, 3, 5])


def cut(part, name, rows=STAY, *, content=None, signature=None, places=None, until=None, **how):
    """A clone that works on `rows` behind the value of that name; (clone, log)."""
    clone = part.clone()
    by_name = {v.name: v for v in clone.graph.inputs}
    by_name |= {v.name: v for n in clone.graph for v in n.outputs}
    region = Region(
        clone, signature or {}, by_name[name], until=by_name[until] if until else None, **how
    )
    build = GraphBuilder(clone, "cut")
    made = None if content is None else build.const(content, np.float32)
    keep = len(rows)
    _, log = shorten(region, build, build.const(rows), places or Places(ROWS, keep), made)
    return clone, log


@pytest.fixture
def stream(graph):
    """x -> Relu -> (+ a value beside the rows) -> weight -> y"""
    text = f"""(float[1,{ROWS},{D}] x, float[1,{ROWS},{D}] beside) => (float[1,{ROWS},{D}] y) {{
        s = Relu(x) t = Add(s, beside) u = MatMul(t, w) y = Tanh(u) }}"""
    return graph(text, w=np.arange(9, dtype=np.float32).reshape(3, 3) / 9)


def feeds(rng):
    return {n: rng.normal(size=(1, ROWS, D)).astype(np.float32) for n in ("x", "beside")}


def test_rows_that_stay_are_what_they_were(stream, ort, rng):
    fed = feeds(rng)
    short, _ = cut(stream, "s")
    assert list(short.graph.outputs[0].shape) == [1, KEPT, D]
    assert np.array_equal(ort(short, **fed)["y"], ort(stream, **fed)["y"][:, STAY])


def test_what_carries_the_rows_from_outside_is_gathered_too(stream):
    """`beside` is a graph input of all rows; it is not resized, its rows are picked."""
    short, _ = cut(stream, "s")
    assert [list(v.shape) for v in short.graph.inputs] == [[1, ROWS, D]] * 2
    picked = [n.inputs[0].name for n in short.graph if n.op_type == "Gather"]
    assert sorted(picked) == ["beside", "s"]


def test_merged_content_takes_the_place_of_the_stream_and_of_nothing_else(stream, ort, rng):
    fed, merged = feeds(rng), rng.normal(size=(1, KEPT, D)).astype(np.float32)
    short, _ = cut(stream, "s", content=merged)
    w = stream.graph.initializers["w"].const_value.numpy()
    want = np.tanh((merged + fed["beside"][:, STAY]) @ w)
    np.testing.assert_allclose(ort(short, **fed)["y"], want, rtol=1e-6)


def test_the_stream_may_be_a_graph_input(stream, ort, rng):
    fed = feeds(rng)
    short, _ = cut(stream, "x")
    assert np.array_equal(ort(short, **fed)["y"], ort(stream, **fed)["y"][:, STAY])


def test_a_mask_with_two_row_dimensions_loses_both(graph, ort, rng):
    """Attention beside a computed mask [1,1,L,L]: rows and columns go."""
    text = f"""(float[1,1,{ROWS},{D}] q, float[1,1,{ROWS},{ROWS}] mask)
        => (float[1,1,{ROWS},{D}] y) {{
        s = Squeeze(q, one) t = Tanh(s) k = Unsqueeze(t, one) m = Mul(mask, two)
        y = Attention(k, k, k, m) }}"""
    part = graph(text, one=np.array([1]), two=np.float32(2))
    short, _ = cut(part, "s")
    fed = {
        "q": rng.normal(size=(1, 1, ROWS, D)).astype(np.float32),
        "mask": rng.normal(size=(1, 1, ROWS, ROWS)).astype(np.float32),
    }
    masked = fed | {"mask": fed["mask"].copy()}
    masked["mask"][..., np.setdiff1d(np.arange(ROWS), STAY)] = -1e30
    np.testing.assert_allclose(
        ort(short, **fed)["y"], ort(part, **masked)["y"][:, :, STAY], rtol=1e-5
    )
    shapes = [list(n.outputs[0].shape) for n in short.graph if n.op_type == "Gather"]
    assert [1, 1, KEPT, KEPT] in shapes


def test_an_index_of_a_row_is_moved_by_what_is_gone(graph, ort, rng):
    text = f"""(float[1,{ROWS},{D}] x, int64[1] last) => (float[1,1,{D}] y) {{
        s = Relu(x) i = Identity(last) y = Gather<axis = 1>(s, i) }}"""
    part = graph(text)
    short, _ = cut(part, "s", indices=("last",))
    x = rng.normal(size=(1, ROWS, D)).astype(np.float32)
    last = np.array([5])  # behind what goes: row 5 of 6 is row 3 of 4
    assert np.array_equal(ort(short, x=x, last=last)["y"], ort(part, x=x, last=last)["y"])


def test_an_index_that_nobody_named_is_left_alone(graph, ort, rng):
    text = f"""(float[1,{ROWS},{D}] x, int64[1] which) => (float[1,1,{D}] y) {{
        s = Relu(x) y = Gather<axis = 1>(s, which) }}"""
    part = graph(text)
    short, _ = cut(part, "s")
    x = rng.normal(size=(1, ROWS, D)).astype(np.float32)
    got = ort(short, x=x, which=np.array([1]))["y"]
    assert np.array_equal(got[0, 0], np.maximum(x, 0)[0, STAY[1]])


def test_rows_in_front_that_always_stay(graph, ort, rng):
    """[class | patches]: the patches' axis shrinks, a constant along class + patches is cut up."""
    text = f"""(float[1,{ROWS - 1},{D}] x) => (float[1,{ROWS},{D}] y) {{
        c = Concat<axis = 1>(class, x) y = Relu(c) }}"""
    part = graph(text, **{"class": np.ones((1, 1, D), np.float32)})
    rows = np.array([0, 1, 4])
    short, _ = cut(part, "c", rows, places=Places(ROWS, 3, first=1))
    x = rng.normal(size=(1, ROWS - 1, D)).astype(np.float32)
    assert np.array_equal(ort(short, x=x)["y"], ort(part, x=x)["y"][:, rows])


def test_reshapes_behind_follow(graph, ort, rng):
    text = f"""(float[1,{ROWS},{2 * D}] x) => (float[1,{ROWS},{2 * D}] y) {{
        s = Relu(x) h = Reshape(s, heads) t = Transpose<perm = [0, 2, 1, 3]>(h)
        b = Transpose<perm = [0, 2, 1, 3]>(t) y = Reshape(b, flat) }}"""
    part = graph(text, heads=np.array([1, ROWS, 2, D]), flat=np.array([1, ROWS, 2 * D]))
    short, log = cut(part, "s")
    x = rng.normal(size=(1, ROWS, 2 * D)).astype(np.float32)
    assert np.array_equal(ort(short, x=x)["y"], ort(part, x=x)["y"][:, STAY])
    assert len(log) == 2 and all(isinstance(line, str) for line in log)


def test_a_folded_axis_is_refused_by_name(graph):
    """Rows of the stream folded with its channels, in a value from outside."""
    text = f"""(float[1,{ROWS},{D}] x) => (float[1,{ROWS * D}] y) {{
        s = Relu(x) f = Reshape(x, folded) g = Tanh(f) r = Reshape(s, folded) y = Add(r, g) }}"""
    part = graph(text, folded=np.array([1, ROWS * D]))
    with pytest.raises(JobFault) as caught:
        cut(part, "s")
    assert caught.value.code == "EV211" and "folded into another axis" in caught.value.why
    assert "g" in caught.value.what.split()


def test_a_weight_along_the_rows_is_gathered_at_run_time(graph, ort, rng):
    """A position table is known when compiling; which rows stay is not."""
    table = rng.normal(size=(1, ROWS, D)).astype(np.float32)
    text = f"""(float[1,{ROWS},{D}] x) => (float[1,{ROWS},{D}] y) {{
        s = Relu(x) y = Add(s, table) }}"""
    part = graph(text, table=table)
    short, _ = cut(part, "s")
    x = rng.normal(size=(1, ROWS, D)).astype(np.float32)
    assert np.array_equal(ort(short, x=x)["y"], ort(part, x=x)["y"][:, STAY])


def test_the_original_is_not_touched(stream):
    import onnx_ir as ir

    before = ir.to_proto(stream).SerializeToString(deterministic=True)
    short, _ = cut(stream, "s")
    assert ir.to_proto(stream).SerializeToString(deterministic=True) == before
    analyse(short.graph)  # and what was made can be analysed again


def test_behind_is_what_depends(stream):
    value = next(v for n in stream.graph for v in n.outputs if v.name == "t")
    assert {n.op_type for n in behind(value)} == {"MatMul", "Tanh"}
