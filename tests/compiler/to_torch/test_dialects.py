"""Every op of the table again, as runtimes of phones want it written."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.errors import JobFault  # noqa: E402
from edgevlm.compiler.to_torch import Dialect, missing_ops, to_torch  # noqa: E402
from edgevlm.compiler.to_torch.linear import as_linears  # noqa: E402

#: all that an op may be written otherwise in; ties and negative indices are tested below
PHONE = Dialect(
    tanh_gelu="spelled", linear=True, attention="plain", batched="bmm", norms="product", fold=True
)


def test_it_computes_what_onnx_runtime_does(row, graph_of, draw, equal):
    part, dialect = graph_of(*row), PHONE
    if part.graph.node(-1).op_type == "Attention" and may_look_at_nothing(part):
        dialect = dataclasses.replace(
            PHONE, attention="safe"
        )  # plain rows of nothing are undefined
    for seed in range(3):
        equal(part, draw(part, seed), dialect=dialect, rtol=3e-5)


def may_look_at_nothing(part: ir.Model) -> bool:
    """A mask that is drawn may be False in a whole row; one that is stored says so itself."""
    mask = next((v for n in part.graph for v in n.inputs if v is not None and v.name == "m"), None)
    if mask is None or not mask.is_initializer():
        return mask is not None and mask.dtype == ir.DataType.BOOL
    rows = mask.const_value.numpy()
    return bool((rows <= -np.inf if rows.dtype != bool else ~rows).all(-1).any())


NAMED = dataclasses.replace(PHONE, attention="sdpa", norms="named", top_k="topk")


@pytest.mark.parametrize("op", ["Attention", "LayerNormalization", "RMSNormalization"])
def test_attention_and_normalisations_by_the_names_that_tools_know(
    op, table, graph_of, draw, equal
):
    for row in table[op]:
        part = graph_of(*row)
        if op == "Attention" and may_look_at_nothing(part):
            continue  # undefined
        for seed in range(3):
            equal(part, draw(part, seed), dialect=NAMED, rtol=3e-5)


def test_what_has_a_name_is_one_op(graph_of):
    ones = np.ones(4, np.float32)
    part = graph_of(
        "float[1,2,3,4] x",
        "t = RMSNormalization(x, g); y = Attention<is_causal = 1>(t, t, t)",
        {"g": ones},
    )
    names = called(to_torch(part, NAMED), torch.ones(1, 2, 3, 4))
    assert names.count("aten.scaled_dot_product_attention.default") == 1
    assert names.count("aten.rms_norm.default") == 1
    assert not [n for n in names if "softmax" in n or "mean" in n]
    # values of another width than queries have no such op
    part = graph_of("float[1,2,3,4] x, float[1,2,3,5] v", "y = Attention(x, x, v)", {})
    values = torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 5)
    assert "aten.softmax.int" in called(to_torch(part, NAMED), *values)


QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
#: what may be the matter with a form that is refused
REASONS = ("zero point", "UINT", "run time", "block_size", "to INT4", "output_dtype")


def test_rounding_by_the_names_that_tools_know(table, graph_of, draw, equal):
    """The same numbers, or a refusal that says why: zero points, unsigned, scales of run time."""
    dialect, taken = dataclasses.replace(PHONE, quantised="decomposed"), 0
    for row in (row for op in QUANTISED for row in table[op]):
        part = graph_of(*row)
        refused = missing_ops(part, dialect)
        if refused:
            assert all(any(word in line for word in REASONS) for line in refused), refused
            with pytest.raises(JobFault, match="EV212"):
                to_torch(part, dialect)
            continue
        taken += 1
        for seed in range(3):
            equal(part, draw(part, seed), dialect=dialect)
    assert taken >= 4


def test_products_with_stored_weights_are_linear_layers(graph_of):
    weights = {"w": np.ones((4, 5), np.float32), "b": np.ones(5, np.float32)}
    part = graph_of("float[1,3,4] x", "t = MatMul(x, w); y = Add(b, t)", weights)
    names = called(to_torch(part, PHONE), torch.ones(1, 3, 4))
    assert names == ["aten.linear.default"]
    # a bias that is read with the product in between stays an addition
    part = graph_of("float[1,3,4] x", "z = MatMul(x, w); y = Add(b, z)", weights)
    assert called(to_torch(part, PHONE), torch.ones(1, 3, 4)) == [
        "aten.linear.default",
        "aten.add.Tensor",
    ]


def test_weights_that_products_share_are_turned_once(graph_of):
    part = graph_of(
        "float[3,4] x", "y = MatMul(x, w); z = MatMul(x, w)", {"w": np.ones((4, 5), np.float32)}
    )
    net = to_torch(part, PHONE)
    assert [tuple(p.shape) for p in net.parameters()] == [(5, 4)]


@pytest.mark.parametrize("block", [0, 2])
def test_codes_that_several_read_are_turned_once(block, graph_of, draw, equal):
    """Each product has a DequantizeLinear of its own, over the same codes."""
    rng = np.random.default_rng(0)
    shape = (2, 6) if block else (6,)
    stored = {
        "c": rng.integers(-127, 128, (4, 6), dtype=np.int8),
        "s": rng.uniform(0.01, 0.1, shape).astype(np.float32),
    }
    how = f"axis = 0, block_size = {block}" if block else "axis = 1"
    nodes = (
        f"d = DequantizeLinear<{how}>(c, s); e = DequantizeLinear<{how}>(c, s);"
        "y = MatMul(x, d); z = MatMul(x, e)"
    )
    part = graph_of("float[3,4] x", nodes, stored)
    dialect = dataclasses.replace(PHONE, quantised="decomposed")
    for each in (PHONE, dialect):
        equal(part, draw(part), dialect=each)
    names = {name for name in as_linears(part).graph.initializers if name.endswith("/turned")}
    assert names == ({"c/turned", "s/turned"} if block else {"c/turned"})


@pytest.mark.parametrize("size", [4, 3, 8])
def test_a_block_that_is_shorter_is_refused_and_one_for_all_is_not(size, graph_of, draw, equal):
    stored = {
        "c": np.random.default_rng(0).integers(-8, 8, (4, 6)).astype(np.int8),
        "s": np.full((-(-4 // size), 6), 0.25, np.float32),
    }
    nodes = f"d = DequantizeLinear<axis = 0, block_size = {size}>(c, s); y = MatMul(x, d)"
    part = graph_of("float[3,4] x", nodes, stored)
    for rounding in ("decomposed", "coreai"):
        dialect = dataclasses.replace(PHONE, quantised=rounding)
        if size == 3:
            with pytest.raises(JobFault, match="EV212") as told:
                to_torch(part, dialect)
            assert "the last one is shorter" in told.value.why
        elif rounding == "decomposed":
            equal(part, draw(part), dialect=dialect)


def test_float16_is_normalised_in_float32(graph_of):
    """Squares of 300 have no room in float16."""
    part = graph_of("float16[2,4] x", "y = RMSNormalization(x, g)", {"g": np.ones(4, np.float16)})
    for dialect in (Dialect(), PHONE):
        x = torch.full((2, 4), 300.0, dtype=torch.float16)
        assert torch.equal(to_torch(part, dialect)({"x": x})["y"], torch.ones_like(x))


def test_stored_codes_stay_codes_and_scales_follow_the_axis(graph_of, draw, equal):
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (4, 6), dtype=np.int8)
    scales = rng.uniform(0.01, 0.1, 6).astype(np.float32)
    nodes = (
        "q = QuantizeLinear<output_dtype = 3>(x, s); d = DequantizeLinear(q, s);"
        "v = DequantizeLinear<axis = 1>(c, t); y = MatMul(d, v)"
    )
    part = graph_of("float[1,3,4] x", nodes, {"s": np.float32(0.02), "c": codes, "t": scales})
    dialect = dataclasses.replace(PHONE, quantised="decomposed")
    equal(part, draw(part), dialect=dialect)
    assert sorted(called(to_torch(part, dialect), torch.ones(1, 3, 4))) == [
        "aten.linear.default",
        "quantized_decomposed.dequantize_per_channel.default",
        "quantized_decomposed.dequantize_per_tensor.default",
        "quantized_decomposed.quantize_per_tensor.default",
    ]


def test_normalisations_are_products_and_no_means(graph_of):
    ones = np.ones(4, np.float32)
    part = graph_of(
        "float[1,3,4] x",
        "t = LayerNormalization(x, g, g); y = RMSNormalization(t, g)",
        {"g": ones},
    )
    names = called(to_torch(part, PHONE), torch.ones(1, 3, 4))
    assert names.count("aten.linear.default") == 3
    assert not [n for n in names if "mean" in n or "norm" in n]


def test_squares_of_large_numbers_stay_inside_an_op(graph_of, draw, equal):
    """RMSNormalization as LayerNormalization of (x, -x): float16 never holds a square."""
    layer = dataclasses.replace(PHONE, norms="layer")
    gain = np.random.default_rng(0).normal(size=4).astype(np.float32)
    part = graph_of("float[2,3,4] x", "y = RMSNormalization<epsilon = 0.01>(x, g)", {"g": gain})
    for seed in range(3):
        equal(part, draw(part, seed), dialect=layer, rtol=1e-5)
    names = called(to_torch(part, layer), torch.ones(2, 3, 4))
    assert "aten.layer_norm.default" in names
    assert not {"aten.pow.Tensor_Scalar", "aten.mean.dim", "aten.rsqrt.default"} & set(names)


def test_products_of_four_axes_are_of_three(graph_of):
    part = graph_of("float[1,2,3,4] a, float[1,2,4,5] b", "y = MatMul(a, b)", {})
    names = called(to_torch(part, PHONE), torch.ones(1, 2, 3, 4), torch.ones(1, 2, 4, 5))
    assert "aten.bmm.default" in names
    assert not [n for n in names if "matmul" in n]


def test_indices_that_never_count_from_the_end(graph_of, draw, equal):
    natural = dataclasses.replace(PHONE, index="natural")
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    part = graph_of("int64[1,3] index", "y = Gather(t, index)", {"t": table})
    equal(part, draw(part), dialect=natural)
    index = torch.zeros(1, 3, dtype=torch.int64)
    assert called(to_torch(part, natural), index) == ["aten.embedding.default"]
    assert len(called(to_torch(part, PHONE), index)) > 1


def test_stored_indices_may_count_from_the_end_all_the_same(graph_of, draw, equal):
    natural = dataclasses.replace(PHONE, index="natural")
    part = graph_of("float[2,4] x", "y = Gather<axis = -1>(x, i)", {"i": np.array([3, -4, 0])})
    equal(part, draw(part), dialect=natural)
    net = to_torch(part, natural)
    places = [v for v in (*net.buffers(), *net.parameters()) if v.dtype == torch.int64]
    assert not any(bool((v < 0).any()) for v in places) or len(called(net, torch.ones(2, 4))) > 1


@pytest.mark.parametrize("where", [0, 3, 4])
def test_a_row_written_by_a_mask(where, graph_of, equal):
    """Elsewhere the cache is what it was, to the bit."""
    rng = np.random.default_rng(where)
    part = graph_of(
        "float[1,2,5,3] x, float[1,2,1,3] n, int64[1] p", "y = TensorScatter<axis = 2>(x, n, p)", {}
    )
    feeds = {
        "x": rng.normal(size=(1, 2, 5, 3)).astype(np.float32),
        "n": rng.normal(size=(1, 2, 1, 3)).astype(np.float32),
        "p": np.array([where]),
    }
    equal(part, feeds, dialect=dataclasses.replace(PHONE, cache="mask"), rtol=0)


def test_a_mask_writes_one_row(graph_of):
    part = graph_of(
        "float[1,2,5,3] x, float[1,2,2,3] n, int64[1] p", "y = TensorScatter<axis = 2>(x, n, p)", {}
    )
    with pytest.raises(JobFault, match="2 rows are written at once"):
        to_torch(part, dataclasses.replace(PHONE, cache="mask"))


def called(net: torch.nn.Module, *values: torch.Tensor) -> list[str]:
    """What torch.export sees, but for moves."""

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.net(dict(zip(net.inputs, given, strict=True))).values())

    program = torch.export.export(Positional(), values, strict=False)
    names = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    return [n for n in names if "reshape" not in n and "detach" not in n and "alias" not in n]
