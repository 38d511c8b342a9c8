"""Pieces of a part: one behind the other they are the whole, and each has what its machine runs."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.boundary import split_at_choice, split_front
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.pieces import call_pieces
from edgevlm.passes.mobile.unfold_patches import UnfoldPatches
from edgevlm.passes.tokens.keep_tokens import KeepTokens

RNG = np.random.default_rng(0)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def kinds(piece) -> list[str]:
    return [n.op_type for n in piece.part.graph]


def ports(piece) -> tuple[list[str], list[str]]:
    return [p.name for p in piece.inputs], [p.name for p in piece.outputs]


def run(piece, feeds):
    names = [port.name for port in piece.outputs]
    return dict(zip(names, open_session(piece.part).run(names, feeds), strict=True))


def check(part, ort, feeds, name="vision"):
    pieces = split_at_choice(part, name)
    found = call_pieces(pieces, run, feeds)
    for port, value in ort(part, **feeds).items():
        np.testing.assert_array_equal(found[port], value, err_msg=port)
    return pieces


SCORED = "h = MatMul(x, w) s = ReduceMax<keepdims=0>(h, ax) f = Reshape(s, flat)"
CHOSEN = "v, p = TopK<axis=0>(f, k) i, o = TopK<axis=0, largest=0>(p, k) g = Gather<axis=1>(h, i)"
STORED = {"w": real(4, 4), "w2": real(4, 2), "ax": i64(2), "flat": i64(6), "k": i64(3)}


def test_score_choose_go_on(graph, ort):
    """hidden and scores leave the device; places and rows are found on the host."""
    part = graph(
        f"(float[1,6,4] x) => (float[1,3,2] y, int64[3] index) {{ {SCORED} {CHOSEN} "
        "n = Relu(g) y = MatMul(n, w2) index = Identity(i) }",
        **STORED,
    )
    a, select, b = check(part, ort, {"x": real(1, 6, 4)})
    assert [(p.name, p.runs) for p in (a, select, b)] == [
        ("vision_a", "device"), ("vision_a_to_b", "host"), ("vision_b", "device"),
    ]  # fmt: skip
    assert kinds(a) == ["MatMul", "ReduceMax", "Reshape"] and ports(a) == (["x"], ["h", "f"])
    assert kinds(select) == ["TopK", "TopK", "Gather", "Identity"]
    assert sorted(ports(select)[0]) == ["f", "h"] and ports(select)[1] == ["g", "index"]
    assert kinds(b) == ["Relu", "MatMul"] and ports(b) == (["g"], ["y"])
    assert set(a.part.graph.initializers) == {"w", "ax", "flat"}
    assert set(b.part.graph.initializers) == {"w2"}
    shapes = {p.name: (p.dtype, p.shape) for p in (*select.inputs, *select.outputs)}
    assert shapes["h"] == ("FLOAT", (1, 6, 4)) and shapes["index"] == ("INT64", (3,))


def test_the_part_itself_where_nothing_is_chosen(graph):
    """A look-up is no choice, nor is a row that the caller names."""
    part = graph(
        "(int64[1,6] ids, int64[1] last) => (float[1,1,4] y) { t = Gather<axis=0>(table, ids)"
        " y = Gather<axis=1>(t, last) }",
        table=real(9, 4),
    )
    (piece,) = split_at_choice(part, "embed")
    assert piece.part is part and (piece.name, piece.runs) == ("embed", "device")
    assert [p.name for p in piece.inputs] == ["ids", "last"]


def test_the_part_is_left_as_it_is(graph, ort):
    part = graph(
        f"(float[1,6,4] x) => (float[1,3,2] y) {{ {SCORED} {CHOSEN} y = MatMul(g, w2) }}", **STORED
    )
    before = [(n.op_type, [v.name for v in n.inputs]) for n in part.graph]
    check(part, ort, {"x": real(1, 6, 4)})
    assert [(n.op_type, [v.name for v in n.inputs]) for n in part.graph] == before
    assert [v.name for v in part.graph.inputs] == ["x"] and set(STORED) <= set(
        part.graph.initializers
    )


def test_a_chain_of_choices_is_one_piece(graph, ort):
    """Nothing of the network lies between two steps, so what does goes along."""
    step = "m{0} = ArgMax<axis=0, keepdims=1>(f{0}) d{0} = Gather<axis=0>(like, m{0}) " \
           "e{0} = Squeeze(d{0}, zero) f{1} = Min(f{0}, e{0})"  # fmt: skip
    steps = " ".join(step.format(i, i + 1) for i in range(3))
    part = graph(
        f"(float[6,4] x) => (float[3,2] y) {{ h = MatMul(x, w) t = Transpose(h) "
        f"like = MatMul(h, t) f0 = ReduceMin<keepdims=0>(like, one) {steps} "
        "i = Concat<axis=0>(m0, m1, m2) g = Gather<axis=0>(h, i) y = MatMul(g, w2) }",
        w=real(4, 4), w2=real(4, 2), zero=i64(0), one=i64(1),
    )  # fmt: skip
    pieces = check(part, ort, {"x": real(6, 4)}, "connector")
    assert [p.name for p in pieces] == ["connector_a", "connector_a_to_b", "connector_b"]
    assert kinds(pieces[1]).count("ArgMax") == 3 and "MatMul" not in kinds(pieces[1])


def test_tokens_that_come_back_behind_a_layer(graph, ort):
    """The layer is the device's, so the choice and the return are pieces of their own."""
    part = graph(
        f"(float[1,6,4] x) => (float[1,6,2] y) {{ {SCORED} {CHOSEN} l = MatMul(g, w) "
        "c = Concat<axis=1>(l, h) z = ScatterElements<axis=0>(places, i, first) "
        "b = Gather<axis=1>(c, z) y = MatMul(b, w2) }",
        **STORED, places=np.arange(6) + 3, first=i64(0, 1, 2),
    )  # fmt: skip
    pieces = check(part, ort, {"x": real(1, 6, 4)}, "prefill")
    assert [p.name for p in pieces] == [
        "prefill_a", "prefill_a_to_b", "prefill_b", "prefill_b_to_c", "prefill_c",
    ]  # fmt: skip
    assert [p.runs for p in pieces] == ["device", "host", "device", "host", "device"]
    assert "ScatterElements" in kinds(pieces[1]) and kinds(pieces[3]) == ["Gather"]


def test_what_follows_from_positions_is_made_where_it_is_needed(graph, ort):
    """Numbers that the caller gives to each piece are no ports between them."""
    part = graph(
        "(float[1,6,4] x, int64[1,6] position_ids) => (float[1,3,2] y) { "
        f"{SCORED} {CHOSEN} c = Cast<to=1>(position_ids) d = Mul(c, half) "
        "u = Gather<axis=1>(d, i) e = Unsqueeze(u, ax) n = Mul(g, e) y = MatMul(n, w2) }",
        **STORED, half=np.float32(0.5),
    )  # fmt: skip
    a, select, b = check(part, ort, {"x": real(1, 6, 4), "position_ids": np.arange(6)[None]})
    assert ports(a)[1] == ["h", "f"] and "position_ids" in ports(select)[0]
    assert kinds(select).count("Cast") == kinds(select).count("Mul") == 1
    assert kinds(b) == ["Unsqueeze", "Mul", "MatMul"]


def test_dead_ends_are_in_no_piece(graph, ort):
    part = graph(
        f"(float[1,6,4] x) => (float[1,3,2] y) {{ {SCORED} {CHOSEN} y = MatMul(g, w2) "
        "dead = Neg(g) }",
        **STORED,
    )
    pieces = check(part, ort, {"x": real(1, 6, 4)})
    assert not any("Neg" in kinds(p) for p in pieces)


def test_forty_layers(make_micro):
    """No walk goes down a stream by calling itself."""
    model = make_micro(layers=40)
    placed = KeepTokens(keep=4, method="fastv", at="llm:20")(model).model
    pieces = split_at_choice(placed.parts["prefill"], "prefill")
    layers = [sum(n.op_type == "Attention" for n in p.part.graph) for p in pieces]
    assert layers == [20, 0, 20]


# -- patches -----------------------------------------------------------------------------------
VIT = "a = Conv<strides=[4,4]>({0}, w, b) c = Reshape(a, s) d = Transpose<perm=[0,2,1]>(c) " \
      "e = MatMul(d, m) y = Relu(e)"  # fmt: skip
WEIGHTS = {"b": real(5), "s": i64(1, 5, 6), "m": real(5, 2)}


@pytest.mark.parametrize("rounded", [False, True])
def test_patches_become_the_input(rounded, graph, solo, ort):
    """A picture is unfolded on the host, as codes where it is rounded."""
    first, known = "", {"w": real(5, 3, 4, 4), **WEIGHTS}
    if rounded:
        first = "q = QuantizeLinear<output_dtype=3>(x, t) r = DequantizeLinear(q, t) "
        first += "w = DequantizeLinear<axis=0>(codes, u) "
        known = {"codes": RNG.integers(-128, 128, size=(5, 3, 4, 4)).astype(np.int8),
                 "u": np.full(5, 0.1, np.float32), "t": np.float32(0.05), **WEIGHTS}  # fmt: skip
    words = first + VIT.format("r" if rounded else "x")
    part = graph(f"(float[1,3,8,12] x) => (float[1,6,2] y) {{ {words} }}", **known)
    assert len(split_front(part, "vision")) == 1  # not unfolded yet
    part = UnfoldPatches()(solo(part)).model.parts["vision"]
    pieces = split_front(part, "vision")
    assert [(p.name, p.runs) for p in pieces] == [("vision_front", "host"), ("vision", "device")]
    unfold, rest = (piece.part for piece in pieces)
    (patches,) = rest.graph.inputs
    assert patches.name == unfold.graph.outputs[0].name
    assert list(patches.shape) == [1, 6, 48]
    assert patches.dtype.name == ("INT8" if rounded else "FLOAT")
    moves = {n.op_type for n in unfold.graph}
    assert moves == {"Reshape", "Transpose"} | ({"QuantizeLinear"} if rounded else set())
    assert max(len(v.shape) for n in rest.graph for v in n.outputs) <= 3
    shared = rest.graph.initializers.keys() & unfold.graph.initializers.keys()
    assert shared == ({"t"} if rounded else set())  # codes are made float on the device
    x = real(1, 3, 8, 12)
    between = ort(unfold, x=x)
    np.testing.assert_array_equal(ort(rest, **between)["y"], ort(part, x=x)["y"])


def test_a_part_without_a_picture_has_no_patches(graph):
    """Heads are turned by a transpose too, but of something that is computed."""
    part = graph(
        "(float[1,6,8] x) => (float[1,6,8] y) { q = MatMul(x, w) r = Reshape(q, s)"
        " t = Transpose<perm=[0,2,1,3]>(r) u = Reshape(t, b) y = MatMul(u, w) }",
        w=real(8, 8), s=i64(1, 6, 2, 4), b=i64(1, 6, 8),
    )  # fmt: skip
    (piece,) = split_front(part, "vision")
    assert piece.part is part and (piece.name, piece.runs) == ("vision", "device")


def test_what_whole_numbers_tell_is_the_hosts(graph, ort):
    """Angles of positions, masks and one-hot rows; what is computed of constants alone is not."""
    part = graph(
        """(float[1,3,4] x, int64[1,3] at, int64[1] last) => (float[1,1,4] y, int64[1] out) {
          f = Cast<to=1>(at)
          u = Unsqueeze(f, ax)
          a = Mul(u, rates)
          c = Cos(a)
          t = Mul(x, c)
          w = DequantizeLinear(codes, step)
          p = MatMul(t, w)
          b = Add(p, x)
          hot = Equal(last, rows)
          h = Cast<to=1>(hot)
          y = MatMul(h, b)
          out = Identity(last)
        }""",
        ax=i64(2), rates=real(1, 1, 4), codes=np.ones((4, 4), np.int8), step=np.float32(0.1),
        rows=np.arange(3)[None, None],
    )  # fmt: skip
    feeds = {"x": real(1, 3, 4), "at": i64(7, 8, 9)[None], "last": i64(1)}
    front, rest = split_front(part, "prefill")
    assert kinds(front) == ["Cast", "Unsqueeze", "Mul", "Cos", "Equal", "Cast", "Identity"]
    assert ports(front) == (["at", "last"], ["c", "h", "out"])
    assert kinds(rest) == ["Mul", "DequantizeLinear", "MatMul", "Add", "MatMul"]
    assert sorted(ports(rest)[0]) == ["c", "h", "x"] and ports(rest)[1] == ["y"]
    found = call_pieces([front, rest], run, feeds)
    for name, value in ort(part, **feeds).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_table_that_is_looked_up_is_the_hosts(graph):
    part = graph("(int64[1,6] ids) => (float[1,6,4] y) { y = Gather(table, ids) }",
                 table=real(9, 4))  # fmt: skip
    (piece,) = split_front(part, "embed")
    assert piece.part is part and (piece.name, piece.runs) == ("embed", "host")
