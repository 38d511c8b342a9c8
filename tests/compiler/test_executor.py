"""The reference executor: what it returns, what it leaves alone, how it tells a broken graph."""

from __future__ import annotations

import gc

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts, open_session

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 64)).astype(np.float32)
TEXT = "(float[1,64] x) => (float[1,64] y) { [first] h = Mul(x, w) [second] y = Add(h, w) }"


@pytest.fixture
def part(graph):
    return graph(TEXT, w=RNG.normal(size=(1, 64)).astype(np.float32))


def test_it_computes_what_numpy_computes_with_weights_inside_and_beside_the_graph(graph):
    for size in (64, 1024):  # 256 bytes lie inside the graph, 4096 beside it
        w, x = RNG.normal(size=(2, 1, size)).astype(np.float32)
        made = graph(TEXT.replace("64", str(size)), w=w)
        got = ReferenceParts({"vision": made}).call("vision", {"x": x})
        np.testing.assert_allclose(got["y"], x * w + w, rtol=1e-6)


@pytest.mark.parametrize(
    "layout", [np.ascontiguousarray, np.asfortranarray, lambda a: a[::-1, ::-1]]
)
def test_weights_outlive_their_arrays_and_may_lie_any_way_in_memory(graph, layout):
    """Handing memory over beside the graph must not leave the session with a dangling pointer."""
    w = RNG.normal(size=(64, 64)).astype(np.float32)
    text = "(float[1,64] x) => (float[64] y) { z = Mul(x, w) y = ReduceSum<keepdims=0>(z, one) }"
    made = graph(text, w=layout(w), one=np.array([1]))
    session, want = open_session(made), (X * layout(w)).sum(1)
    del made
    gc.collect()
    junk = [np.full((64, 64), 7, np.float32) for _ in range(64)]
    np.testing.assert_allclose(session.run(None, {"x": X})[0], want, rtol=1e-4, atol=1e-5)
    del junk


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [64, 4096])
def test_types_that_numpy_has_by_extension_lie_beside_the_graph_too(graph, dtype, size):
    w = RNG.normal(size=(1, size)).astype(dtype)
    text = TEXT.replace("64", str(size)).replace("[first]", "v = Cast<to = 1>(w) [first]")
    made = graph(text.replace("x, w", "x, v").replace("h, w", "h, v"), w=w)
    session, x = open_session(made), np.ones((1, size), np.float32)
    del made
    gc.collect()
    wanted = 2 * w.astype(np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted)


@pytest.mark.parametrize("size", [16, 1024])
@pytest.mark.parametrize("told", [True, False], ids=["offset told", "offset left out"])
def test_weights_in_a_file_are_found_however_small(graph, tmp_path, size, told):
    w = RNG.normal(size=(1, size)).astype(np.float32)
    (tmp_path / "w.bin").write_bytes(w.tobytes())
    made = graph(TEXT.replace("64", str(size)), w=w)
    place = (0, w.nbytes) if told else (None, None)
    made.graph.initializers["w"].const_value = ir.ExternalTensor(
        "w.bin", *place, ir.DataType.FLOAT, shape=ir.Shape(w.shape), name="w", base_dir=tmp_path
    )
    x = np.ones((1, size), np.float32)
    assert np.array_equal(open_session(made).run(None, {"x": x})[0], w + w)


def test_opening_a_session_leaves_the_graph_as_it_was(part):
    before = ir.to_proto(part).SerializeToString(deterministic=True)
    tensor = part.graph.initializers["w"].const_value
    names = ["h", "y"]
    h, y = open_session(part, outputs=(part.graph.node(0).outputs[0],)).run(names, {"x": X})
    np.testing.assert_allclose(y - tensor.numpy(), h, rtol=1e-3, atol=1e-6)
    assert ir.to_proto(part).SerializeToString(deterministic=True) == before
    assert part.graph.initializers["w"].const_value is tensor


def test_a_graph_that_is_not_valid_leaves_it_as_it_was_too(part):
    part.graph.node(0).op_type = "NoSuchOp"
    with pytest.raises(JobFault) as caught:
        open_session(part, outputs=(part.graph.node(0).outputs[0],))
    assert caught.value.code == "EV204" and "NoSuchOp" in caught.value.why
    assert [v.name for v in part.graph.outputs] == ["y"]


def test_a_part_that_opens_and_does_not_run_is_told_in_our_words(graph):
    text = "(float[1,64] x, int64[1] i) => (float[1,1] y) { y = Gather<axis = 1>(x, i) }"
    parts = ReferenceParts({"embed": graph(text)})
    with pytest.raises(JobFault) as caught:
        parts.call("embed", {"x": X, "i": np.array([64])})
    assert caught.value.code == "EV204" and "embed" in caught.value.what
    assert "out of" in caught.value.why
    with pytest.raises(JobFault, match="EV204"):
        parts.call("embed", {"x": X[:, :3], "i": np.array([0])})


def test_a_part_that_stays_keeps_its_session_and_another_gets_its_own(part):
    first = ReferenceParts({"vision": part}).call("vision", {"x": X})["y"]
    other = part.clone()
    other.graph.node(1).op_type = "Sub"
    assert np.array_equal(ReferenceParts({"vision": part}).call("vision", {"x": X})["y"], first)
    changed = ReferenceParts({"vision": other}).call("vision", {"x": X})["y"]
    assert not np.allclose(changed, first)
    sessions = ReferenceParts._sessions
    assert part in sessions and other in sessions
    held = len(sessions)
    del other
    gc.collect()
    assert len(sessions) < held  # a part that is gone does not keep its weights in memory
