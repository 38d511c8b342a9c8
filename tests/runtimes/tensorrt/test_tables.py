"""int8 tables become float ones with the same numbers; what only looks like one is left."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.tensorrt.tables import as_float_tables

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(11, 6)).astype(np.float32) * RNG.uniform(0.1, 9, (11, 1)).astype("f")
LOOK = "(int64[1,4] ids) => (float[1,4,6] y) { [look] y = Gather(table, ids) }"
IDS = {"ids": np.array([[3, 0, 10, 3]])}
FORM = """(int64[4] ids, int64[4] others) => (float[4,6] y) { [a] r = Gather(codes, ids)
    [b] s = Gather(scale, ids) [d] y = DequantizeLinear<axis = 0>(r, s) }"""


def ops(part):
    return Counter(n.op_type for n in part.graph)


@pytest.fixture
def table(graph, solo):
    part = graph(LOOK, table=TABLE)
    return QuantizeWeights(min_elements=1)(solo(part)).model.parts["vision"]


def test_the_same_rows_bit_for_bit(table, ort):
    made = as_float_tables(table)
    assert ops(table)["DequantizeLinear"] == 1 and ops(made) == {"Gather": 1}
    (stored,) = made.graph.initializers.values()
    assert stored.dtype.name == "FLOAT" and tuple(stored.shape) == TABLE.shape
    np.testing.assert_array_equal(ort(made, **IDS)["y"], ort(table, **IDS)["y"])
    assert [v.name for v in made.graph.outputs] == ["y"]
    assert np.abs(ort(made, **IDS)["y"] - TABLE[IDS["ids"]]).max() < 0.2


def test_behind_cast_half_it_is_a_table_of_float16(table, ort, solo):
    from edgevlm.compiler.reference import Reference
    from edgevlm.passes.precision.cast_half import CastHalf

    step = CastHalf(cache=False)
    step.calibration = Reference([{"vision": IDS}], [], [])
    half = step(solo(table)).model.parts["vision"]
    made = as_float_tables(half)
    assert ops(made) == {"Gather": 1, "Cast": 1}
    (stored,) = made.graph.initializers.values()
    assert stored.dtype.name == "FLOAT16"
    np.testing.assert_allclose(ort(made, **IDS)["y"], ort(table, **IDS)["y"], rtol=2e-3, atol=1e-3)


def test_a_table_that_is_looked_up_twice_is_stored_once(graph, ort):
    text = """(int64[4] ids, int64[3] more) => (float[4,6] y, float[3,6] z) {
        a = Gather(codes, ids) b = Gather(scale, ids) y = DequantizeLinear<axis = 0>(a, b)
        c = Gather(codes, more) d = Gather(scale, more) z = DequantizeLinear<axis = 0>(c, d) }"""
    codes = RNG.integers(-128, 128, (11, 6), np.int8)
    part = graph(text, codes=codes, scale=RNG.uniform(0.1, 1, 11).astype(np.float32))
    made = as_float_tables(part)
    assert ops(made) == {"Gather": 2} and len(made.graph.initializers) == 1
    feeds = {"ids": np.array([0, 5, 10, 1]), "more": np.array([9, 9, 2])}
    for name, wanted in ort(part, **feeds).items():
        np.testing.assert_array_equal(ort(made, **feeds)[name], wanted)


@pytest.mark.parametrize(
    "text",
    [
        FORM.replace("Gather(scale, ids)", "Gather(scale, others)"),  # scales of other rows
        FORM.replace("Gather(codes, ids)", "Identity(codes)"),
        FORM.replace("Gather(scale, ids)", "Neg(scale)"),
    ],
)  # fmt: skip
def test_what_only_looks_like_one_is_left(graph, text):
    arrays = {"codes": RNG.integers(-128, 128, (4, 6), np.int8), "scale": np.ones(4, np.float32)}
    part = graph(text, **arrays)
    assert as_float_tables(part) is part


def test_a_table_that_columns_are_looked_up_from_is_left(graph):
    text = """(int64[6] ids) => (float[6,6] y) { [a] r = Gather<axis = 1>(codes, ids)
        [b] s = Gather(scale, ids) [d] y = DequantizeLinear<axis = 1>(r, s) }"""
    codes, scale = RNG.integers(-128, 128, (6, 9), np.int8), np.ones(9, np.float32)
    part = graph(text, codes=codes, scale=scale)
    assert as_float_tables(part) is part


def test_a_model_without_one_is_handed_back(tiny_model):
    assert all(as_float_tables(part) is part for part in tiny_model.parts.values())
