"""one-hot-tokens: every op that chooses by an index, by products with ones and zeros."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.mobile.one_hot_tokens import OneHotTokens
from edgevlm.passes.mobile.without_index import HANDLED

RNG = np.random.default_rng(0)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def kinds(result, role="vision") -> list[str]:
    return [n.op_type for n in result.model.parts[role].graph]


def skipped(result) -> list[str]:
    return [n.why for n in result.notes if n.kind == "skipped"]


X, PLACES = "float[1,6,5] x", "int64[3] i"
CASES = {  # inputs, nodes to y, its shape, constants
    "rows": (f"{X}, {PLACES}", "y = Gather<axis=1>(x, i)", "1,3,5", {}),
    "columns": (f"float[1,5,6] x, {PLACES}", "y = Gather<axis=2>(x, i)", "1,5,3", {}),
    "the first axis": (f"float[6,2,5] x, {PLACES}", "y = Gather<axis=0>(x, i)", "3,2,5", {}),
    "of a vector": (f"float[6] x, {PLACES}", "y = Gather<axis=0>(x, i)", "3", {}),
    "one row, and no axis": (f"{X}, int64 i", "y = Gather<axis=1>(x, i)", "1,5", {}),
    "a table of places": (f"{X}, int64[2,3] i", "y = Gather<axis=1>(x, i)", "1,2,3,5", {}),
    "of four axes": (f"float[2,3,6,4] x, {PLACES}", "y = Gather<axis=2>(x, i)", "2,3,3,4", {}),
    "in the second of four": (
        f"float[2,6,3,4] x, {PLACES}", "y = Gather<axis=1>(x, i)", "2,3,3,4", {}
    ),
    "elements, expanded": (
        f"{X}, {PLACES}",
        "u = Reshape(i, col) e = Expand(u, wide) y = GatherElements<axis=1>(x, e)",
        "1,3,5", {"col": i64(1, 3, 1), "wide": i64(1, 3, 5)},
    ),
    "elements of scores": (
        "float[2,6] x, int64[2,3] i", "y = GatherElements<axis=1>(x, i)", "2,3", {}
    ),
    "elements a batch": (
        "float[2,6,5] x, int64[2,3,1] i",
        "e = Expand(i, wide) m = Mod(e, six) y = GatherElements<axis=1>(x, m)",
        "2,3,5", {"wide": i64(2, 3, 5), "six": np.array(6)},
    ),
    "n dimensions": (
        f"float[6,1,5] x, {PLACES}",
        "u = Unsqueeze(i, one) y = GatherND(x, u)", "3,1,5", {"one": i64(1)},
    ),
    "n dimensions of a batch of one": (
        f"{X}, {PLACES}",
        "u = Unsqueeze(i, one) c = Concat<axis=1>(z, u) y = GatherND(x, c)",
        "3,5", {"one": i64(1), "z": np.zeros((3, 1), np.int64)},
    ),
    "scatter": (
        f"float[6] x, {PLACES}, float[3] u", "y = ScatterElements<axis=0>(x, i, u)", "6", {}
    ),
    "scatter rows": (
        f"float[6,5] x, {PLACES}, float[3,5] u",
        "c = Unsqueeze(i, one) y = ScatterND(x, c, u)", "6,5", {"one": i64(1)},
    ),
    "add to rows": (
        f"float[6,5] x, {PLACES}, float[3,5] u",
        'c = Unsqueeze(i, one) y = ScatterND<reduction="add">(x, c, u)', "6,5", {"one": i64(1)},
    ),
    "one-hot": (
        PLACES, "y = OneHot<axis=-1>(i, n, ends)", "3,6", {"n": i64(6), "ends": np.float32([0, 1])}
    ),
    "one-hot in front": (
        PLACES,
        "y = OneHot<axis=0>(i, n, ends)", "6,3", {"n": i64(6), "ends": np.float32([0.1, 0.3])},
    ),
}  # fmt: skip


def feeds_of(part: ir.Model, places: np.ndarray) -> dict[str, np.ndarray]:
    out = {}
    for value in part.graph.inputs:
        shape = tuple(int(d) for d in value.shape)
        out[value.name] = np.resize(places, shape) if value.dtype.is_integer() else real(*shape)
    return out


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("places", [[4, 0, 2], [-1, 3, -6]], ids=["from the front", "and back"])
def test_every_form_of_indexing(case, places, graph, apply):
    inputs, words, shape, constants = CASES[case]
    if "Mod" in words and min(places) < 0:
        places = [5, 3, 0]
    part = graph(f"({inputs}) => (float[{shape}] y) {{ {words} }}", **constants)
    result = apply(OneHotTokens(), part, **feeds_of(part, np.array(places)))
    assert result.changed and not set(HANDLED) & set(kinds(result))


@settings(max_examples=40)
@given(data=st.data())
def test_any_shape_and_axis(data, graph, apply):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    index = data.draw(st.lists(st.integers(1, 3), max_size=2 if len(shape) < 4 else 1))
    at = axis % len(shape)
    out = [*shape[:at], *index, *shape[at + 1 :]]
    size = shape[axis]
    places = data.draw(st.lists(st.integers(-size, size - 1), min_size=9, max_size=9).map(np.array))
    words = [",".join(map(str, s)) for s in (shape, index, out)]
    part = graph(
        f"(float[{words[0]}] x, int64{f'[{words[1]}]' if index else ''} i) => "
        f"(float{f'[{words[2]}]' if out else ''} y) "
        f"{{ y = Gather<axis={axis}>(x, i) }}"
    )
    assert apply(OneHotTokens(), part, **feeds_of(part, places)).changed


KNOWN = {  # places of a constant -> what reads them
    "one": (np.array(0), ["Slice", "Reshape"]),
    "the last": (i64(-1), ["Slice"]),
    "a run": (i64(2, 3, 4), ["Slice"]),
    "every second": (i64(1, 3, 5), ["Slice"]),
    "all": (i64(0, 1, 2, 3, 4, 5), ["Identity"]),
    "scattered": (i64(4, 0, 1), ["MatMul"]),
}


@pytest.mark.parametrize("case", KNOWN)
def test_places_known_when_compiling_are_cut_or_a_stored_matrix(case, graph, apply):
    places, wanted = KNOWN[case]
    shape = ",".join(map(str, (1, *places.shape, 5)))
    part = graph(f"({X}) => (float[{shape}] y) {{ y = Gather<axis=1>(x, i) }}", i=places)
    result = apply(OneHotTokens(), part, x=real(1, 6, 5))
    assert kinds(result) == wanted


def test_the_matrix_of_a_choice_is_used_as_it_is(graph, apply):
    """No index is made to be compared again, unless somebody reads it."""
    part = graph(
        "(float[6] s, float[1,6,5] x, float[6] t) => (float[1,3,5] y, float[3] z, int64[3] i) {"
        " v, p = TopK<axis=0>(s, k) i, o = TopK<axis=0, largest=0>(p, k)"
        " y = Gather<axis=1>(x, i) z = Gather<axis=0>(t, i) }",
        k=i64(3),
    )
    result = apply(OneHotTokens(), part, s=real(6), x=real(1, 6, 5), t=real(6))
    assert kinds(result).count("Equal") == 2  # of ranks: equal scores, and the places in order
    assert [v.name for v in result.model.parts["vision"].graph.outputs] == ["y", "z", "i"]


def test_one_value_that_goes_out_by_two_names(graph, apply):
    part = graph(
        "(int64[3] i) => (float[3,6] a, float[3,6] b) { a = OneHot(i, n, e) b = OneHot(i, n, e) }",
        n=i64(6), e=np.float32([0, 1]),
    )  # fmt: skip
    result = apply(OneHotTokens(), part, i=i64(0, 5, 2))
    assert [v.name for v in result.model.parts["vision"].graph.outputs] == ["a", "b"]


def test_integers_pass_as_floats_where_they_are_small_enough(graph, solo, ort, micro_model):
    """Positions are: the contract says how many there are. A stranger's integers may not be."""
    words = "v, p = TopK<axis=0>(s, k) y = Gather<axis=1>(position_ids, p)"
    rows = micro_model.contract.prefill_length
    part = graph(
        f"(int64[1,{rows}] position_ids, float[{rows}] s) => (int64[1,3] y) {{ {words} }}", k=i64(3)
    )
    result = OneHotTokens()(solo(part, "prefill"))
    assert not set(HANDLED) & set(kinds(result, "prefill"))
    fed = {"position_ids": np.arange(rows)[None] + 7, "s": real(rows)}
    made = result.model.parts["prefill"]
    np.testing.assert_array_equal(ort(made, **fed)["y"], ort(part, **fed)["y"])

    other = OneHotTokens()(solo(part))  # a vision part has no position_ids
    assert skipped(other) == ["position_ids may hold integers that float32 has not"]
    assert kinds(other).count("Gather") == 1


def test_a_bool_mask_is_gathered(graph, apply):
    part = graph("(bool[1,6] m, int64[3] i) => (bool[1,3] y) { y = Gather<axis=1>(m, i) }")
    mask = np.array([[True, False, True, True, False, False]])
    result = apply(OneHotTokens(), part, m=mask, i=i64(4, 2, 0))
    assert kinds(result)[-1] == "Cast"


def test_float16_stays_float16(graph, apply):
    part = graph(
        "(float16[1,6,5] x, int64[3] i) => (float16[1,3,5] y) { y = Gather<axis=1>(x, i) }"
    )
    result = apply(OneHotTokens(), part, x=real(1, 6, 5).astype(np.float16), i=i64(5, 0, 3))
    products = [n for n in result.model.parts["vision"].graph if n.op_type == "MatMul"]
    assert [n.outputs[0].dtype.name for n in products] == ["FLOAT16"]


REFUSED = {
    "a table": (
        "(int64[3] i) => (float[3,2] y) { y = Gather<axis=0>(t, i) }",
        {"t": real(9, 2)}, "a stored table of 9 rows is looked up, over 8",
    ),
    "not finite": (
        "(int64[3] i) => (float[3] y) { y = Gather<axis=0>(t, i) }",
        {"t": np.float32([0, -np.inf])}, "t is not finite everywhere",
    ),
    "differs along": (
        "(float[6,2] x, int64[3,2] i) => (float[3,2] y) { y = GatherElements<axis=0>(x, i) }",
        {}, "its places differ along what is gathered",
    ),
    "several axes": (
        "(float[6,2] x, int64[3,2] i) => (float[3] y) { y = GatherND(x, i) }",
        {}, "it looks up several axes at once",
    ),
    "maximum": (
        '(float[6] x, int64[3] i, float[3] u) => (float[6] y) { y = ScatterElements<axis=0, '
        'reduction="max">(x, i, u) }', {}, "it reduces by max",
    ),
    "k is computed": (
        "(float[6] x, int64[1] k) => (float[n] v, int64[n] i) { v, i = TopK<axis=0>(x, k) }",
        {}, "a shape is not known, or empty",
    ),
    "four axes to rank": (
        "(float[1,2,3,6] x) => (float[1,2,3,2] v, int64[1,2,3,2] i) { v, i = TopK(x, k) }",
        {"k": i64(2)}, "it ranks along one of 4 axes; pairs would have 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_sentence(case, graph, solo):
    text, constants, why = REFUSED[case]
    result = OneHotTokens(table_rows=8)(solo(graph(text, **constants)))
    assert not result.changed and skipped(result) == [why]


def test_a_graph_that_chooses_nothing_is_not_touched(graph, apply):
    part = graph("(float[2,3] x) => (float[2,3] y) { y = Neg(x) }")
    result = apply(OneHotTokens(), part, x=real(2, 3))
    assert not result.changed and not result.notes
