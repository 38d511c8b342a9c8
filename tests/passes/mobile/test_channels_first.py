"""channels-first: every rule against ONNX Runtime; what has no rule is met in its old layout."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.mobile.channels_first import ChannelsFirst

S, C, H = 5, 12, 3
RNG = np.random.default_rng(0)
NEAR = {"rtol": 2e-5, "atol": 2e-5}  # sums in another order
X = f"float[1,{S},{C}] x"


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def why(result) -> str:
    (note,) = result.notes
    return note.why


def test_a_block_changes_its_layout_twice(graph, apply, ops):
    part = graph(
        f"""({X}) => (float[1,{S},{C}] y) {{
        a = MatMul(x, w1) n = LayerNormalization(a, g, b) m = MatMul(n, w2) m2 = Add(m, c)
        e = Gelu(m2) o = MatMul(e, w3) y = Add(a, o) }}""",
        w1=normal(C, C), w2=normal(C, 20), w3=normal(20, C), g=normal(C), b=normal(C), c=normal(20),
    )  # fmt: skip
    result = apply(ChannelsFirst(), part, **NEAR, x=normal(1, S, C))
    kinds = ops(result)
    assert kinds.count("Conv") == 3 and kinds.count("Transpose") == 2
    assert not {"MatMul", "LayerNormalization"} & set(kinds)
    assert why(result) == (
        "3 products as convolutions, 0 attentions head by head; the layout changes 2 times"
    )
    kernels = [n.inputs[1].shape for n in result.model.parts["vision"].graph if n.op_type == "Conv"]
    assert [list(k) for k in kernels] == [[C, C, 1, 1], [20, C, 1, 1], [C, 20, 1, 1]]


def test_a_part_without_products_is_left_alone(graph, solo):
    part = graph(f"({X}) => (float[1,{S},{C}] y) {{ y = Gelu(x) }}")
    result = ChannelsFirst()(solo(part))
    assert not result.changed and result.notes[0].kind == "skipped"
    computed = f"({X}, float[{C},4] w) => (float[1,{S},4] y) {{ y = MatMul(x, w) }}"
    assert not ChannelsFirst()(solo(graph(computed))).changed


@pytest.mark.parametrize(
    "words",
    [
        "y = Gemm(x, w)",
        "y = Gemm(x, w, b)",
        "y = Gemm<transB=1>(x, t, b)",
    ],
)
def test_rows_and_gemm(graph, apply, ops, words):
    known = {"w": normal(C, 7), "t": normal(7, C), "b": normal(7)}
    part = graph(
        f"(float[{S},{C}] x) => (float[{S},7] y) {{ {words} }}",
        **{name: known[name] for name in known if f" {name}" in words.replace("(x,", "")},
    )
    assert ops(apply(ChannelsFirst(), part, **NEAR, x=normal(S, C))).count("Conv") == 1


@pytest.mark.parametrize(
    "words", ["Gemm<transA=1>(x, w)", "Gemm<alpha=2.0>(x, w)", "Gemm(x, w, one)"]
)
def test_a_gemm_of_another_kind_stays(graph, solo, words):
    more = {"one": normal(1)} if "one" in words else {}
    part = graph(
        f"(float[{C},{C}] x) => (float[{C},7] y) {{ y = {words} }}", w=normal(C, 7), **more
    )
    assert not ChannelsFirst()(solo(part)).changed


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_a_norm_with_one_factor_for_all_keeps_its_layout(graph, apply, ops, op):
    part = graph(
        f"({X}) => (float[1,{S},{C}] y) {{ m = MatMul(x, w) y = {op}(m, g) }}",
        w=normal(C, C),
        g=normal(1),
    )
    assert op in ops(apply(ChannelsFirst(), part, **NEAR, x=normal(1, S, C)))


@pytest.mark.parametrize("how", ["", "<is_causal=1>"])
def test_attention_of_float16_stays_float16(graph, solo, how):
    """The checker of ONNX finds two types in one sum."""
    part = graph(
        f"""(float16[1,{S},{C}] x) => (float16[1,{H},{S},{C // H}] y) {{
        a = MatMul(x, w) b = Reshape(a, h) q = Transpose<perm=[0,2,1,3]>(b)
        y = Attention{how}(q, q, q) }}""",
        w=normal(C, C).astype(np.float16), h=i64(1, S, H, C // H),
    )  # fmt: skip
    made = ChannelsFirst()(solo(part)).model.parts["vision"]
    assert "Einsum" in {n.op_type for n in made.graph}
    onnx.checker.check_model(ir.to_proto(made), full_check=True)


@pytest.mark.parametrize(
    "other",
    [
        normal(C), normal(1, 1, C), normal(S, C), normal(1, S, C), normal(1, S, 1), normal(1),
        np.float32(3),
    ],
    ids=lambda array: str(np.shape(array)),
)  # fmt: skip
def test_constants_that_meet_a_stream(graph, apply, ops, other):
    part = graph(
        f"({X}) => (float[1,{S},{C}] y) {{ m = MatMul(x, w) a = Mul(m, o) y = Sub(o, a) }}",
        w=normal(C, C),
        o=other,
    )
    assert ops(apply(ChannelsFirst(), part, **NEAR, x=normal(1, S, C))).count("Transpose") == 2


def test_values_that_meet_a_stream(graph, apply, ops):
    """A residual and a row of factors that are computed; a picture that does not fit stays out."""
    part = graph(
        f"""({X}, float[1,{S},1] f, float[2,{S},{C}] z) => (float[1,{S},{C}] y, float[2,{S},{C}] u)
        {{ m = MatMul(x, w) r = Add(x, m) y = Mul(r, f) u = Add(z, m) }}""",
        w=normal(C, C),
    )
    fed = {"x": normal(1, S, C), "f": normal(1, S, 1), "z": normal(2, S, C)}
    result = apply(ChannelsFirst(), part, **NEAR, **fed)
    assert ops(result).count("Conv") == 1


def test_a_matrix_that_is_added_as_well(graph, apply):
    part = graph(
        f"(float[1,{C},{C}] x) => (float[1,{C},{C}] y) {{ m = MatMul(x, w) y = Add(m, w) }}",
        w=normal(C, C),
    )
    apply(ChannelsFirst(), part, **NEAR, x=normal(1, C, C))


def test_nothing_is_left_of_what_does_not_hold(graph, apply):
    """A product of heads, and a sum with what has no place beside tokens."""
    part = graph(
        f"""({X}, float[2,{S},{C}] z) => (float[1,{S},{H},8] y, float[2,{S},{C}] u) {{
        m = MatMul(x, w) h = Reshape(m, heads) y = MatMul(h, v) s = Add(m, k)
        u = Max(k, s, z) }}""",
        w=normal(C, C), v=normal(C // H, 8), k=normal(C), heads=i64(1, S, H, C // H),
    )  # fmt: skip
    fed = {"x": normal(1, S, C), "z": normal(2, S, C)}
    made = apply(ChannelsFirst(), part, **NEAR, **fed).model.parts["vision"].graph
    assert all(value.uses() for value in made.initializers.values())
    assert all(v.uses() or v.is_graph_output() for node in made for v in node.outputs)


@pytest.mark.parametrize(
    ("op", "affine"),
    [("LayerNormalization", ", g"), ("LayerNormalization", ", g, b"), ("RMSNormalization", ", g")],
)
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_norms(graph, apply, op, affine, size):
    part = graph(
        f"({X}) => (float[1,{S},{C}] y) {{ m = MatMul(x, w) y = {op}(m{affine}) }}",
        w=np.eye(C, dtype=np.float32),
        **{name: normal(C) for name in affine.replace(",", "").split()},
    )
    x = (size * RNG.normal(size=(1, S, C)) + size).astype(np.float32)
    apply(ChannelsFirst(), part, **NEAR, x=x)


def test_a_row_of_zeros_is_no_division_by_zero(graph, apply):
    part = graph(
        f"({X}) => (float[1,{S},{C}] y) {{ m = MatMul(x, w) y = RMSNormalization(m, g) }}",
        w=np.eye(C, dtype=np.float32),
        g=normal(C),
    )
    apply(ChannelsFirst(), part, x=np.zeros((1, S, C), np.float32))


def test_no_square_of_a_norm_is_above_one(graph, solo, ort):
    """Float16 ends at 65504."""
    part = graph(
        f"({X}) => (float[1,{S},{C}] y) {{ m = MatMul(x, w) y = RMSNormalization(m, g) }}",
        w=np.eye(C, dtype=np.float32),
        g=normal(C),
    )
    made = ChannelsFirst()(solo(part)).model.parts["vision"].clone()
    squares = [n.outputs[0] for n in made.graph if n.op_type == "Mul"
               and n.inputs[0] is n.inputs[1] and int(n.inputs[0].shape[1]) == C]  # fmt: skip
    made.graph.outputs.extend(squares)
    found = ort(made, x=(3e4 * RNG.normal(size=(1, S, C))).astype(np.float32))
    assert len(squares) == 1 and found[squares[0].name].max() == pytest.approx(1)


def attention(graph, words: str, inputs: str = "", heads=(H, H), value=4, **more):
    """q, k and v by products and the usual moves; `words` from q, k, v [1,h,S,d] to y [1,H,S,e]."""
    width = C // H
    many, few = heads
    return graph(
        f"""({X}{inputs}) => (float[1,{S},{C}] out, float[1,{few},{S},{width}] key) {{
        q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)
        q1 = Reshape(q0, hq) k1 = Reshape(k0, hk) v1 = Reshape(v0, hv)
        q = Transpose<perm=[0,2,1,3]>(q1) k = Transpose<perm=[0,2,1,3]>(k1)
        v = Transpose<perm=[0,2,1,3]>(v1) {words}
        key = Identity(k) t = Transpose<perm=[0,2,1,3]>(y) f = Reshape(t, flat)
        out = MatMul(f, wo) }}""",
        wq=normal(C, many * width), wk=normal(C, few * width), wv=normal(C, few * value),
        wo=normal(many * value, C), hq=i64(1, S, many, width), hk=i64(1, S, few, width),
        hv=i64(1, S, few, value), flat=i64(1, S, many * value), **more,
    )  # fmt: skip


@pytest.mark.parametrize("heads", [(3, 3), (4, 2), (6, 1), (1, 1)])
@pytest.mark.parametrize("value", [4, 6])
@pytest.mark.parametrize("how", ["", "<is_causal=1>", "<scale=0.3>"])
def test_attention_head_by_head(graph, apply, ops, heads, value, how):
    part = attention(graph, f"y = Attention{how}(q, k, v)", heads=heads, value=value)
    kinds = ops(apply(ChannelsFirst(), part, **NEAR, x=normal(1, S, C)))
    assert kinds.count("Einsum") == 2 * heads[0] and kinds.count("Softmax") == heads[0]
    assert "Attention" not in kinds and kinds.count("Conv") == 4
    # of what comes in and out, of keys for their product, and of the port of keys
    assert kinds.count("Transpose") == 4


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("y = Attention(q, k, v, mask)", {"mask": np.tri(S, dtype=bool)}),
        ("y = Attention<softcap=2.0>(q, k, v)", {}),
        ("n = Neg(v) kk = Concat<axis=2>(k, k) vv = Concat<axis=2>(v, n) y = Attention(q, kk, vv)",
         {}),
    ],
)  # fmt: skip
def test_attention_of_another_kind_gets_its_old_layout(graph, apply, ops, words, more):
    part = attention(graph, words, **more)
    kinds = ops(apply(ChannelsFirst(), part, **NEAR, x=normal(1, S, C)))
    assert kinds.count("Attention") == 1 and kinds.count("Conv") == 4 and "Einsum" not in kinds


def test_rotation_and_norms_of_heads(graph, apply, ops):
    angles = RNG.normal(size=(1, S, 2))
    part = attention(
        graph,
        """qn = RMSNormalization(q, g) qr = RotaryEmbedding(qn, cos, sin)
        kr = RotaryEmbedding(k, cos, sin) y = Attention<is_causal=1>(qr, kr, v)""",
        g=normal(4),
        cos=np.cos(angles).astype(np.float32),
        sin=np.sin(angles).astype(np.float32),
    )
    kinds = ops(apply(ChannelsFirst(), part, **NEAR, x=normal(1, S, C)))
    assert not {"RotaryEmbedding", "RMSNormalization", "Attention"} & set(kinds)


@pytest.mark.parametrize(
    "words",
    ["RotaryEmbedding<interleaved=1>(q, cos, sin)",
     "RotaryEmbedding<rotary_embedding_dim=2>(q, half, half)"],
)  # fmt: skip
def test_a_rotation_of_another_kind_stays(graph, apply, ops, words):
    known = {"cos": normal(1, S, 2), "sin": normal(1, S, 2), "half": normal(1, S, 1)}
    used = {name: array for name, array in known.items() if name in words}
    part = attention(graph, f"qr = {words} y = Attention(qr, k, v)", **used)
    assert ops(apply(ChannelsFirst(), part, **NEAR, x=normal(1, S, C))).count("RotaryEmbedding")


def test_one_token_moves_nothing(graph, apply, ops):
    """[1,1,C] is [1,C,1,1] by name alone, in front of a cache as well."""
    part = graph(
        f"""(float[1,1,{C}] x, float[1,{H},7,4] past) => (float[1,1,{C}] y, float[1,{H},8,4] k) {{
        a = MatMul(x, w) h = Reshape(a, heads) k = Concat<axis=2>(past, h)
        t = Attention(h, k, k) f = Reshape(t, flat) y = MatMul(f, w) }}""",
        w=normal(C, C), heads=i64(1, H, 1, 4), flat=i64(1, 1, C),
    )  # fmt: skip
    fed = {"x": normal(1, 1, C), "past": normal(1, H, 7, 4)}
    kinds = ops(apply(ChannelsFirst(), part, **NEAR, **fed))
    assert kinds.count("Conv") == 2 and "Transpose" not in kinds


@given(
    count=st.integers(1, 4), heads=st.integers(1, 4), shared=st.integers(1, 3),
    width=st.sampled_from([2, 4, 6]), causal=st.booleans(), rows=st.booleans(),
)  # fmt: skip
@settings(max_examples=30)
def test_any_sizes(graph, solo, ort, count, heads, shared, width, causal, rows):
    """Rows of two axes or three, heads that share keys, one token, one head."""
    many, channels = heads * shared, heads * shared * width
    shape = f"{count},{channels}" if rows else f"1,{count},{channels}"
    part = graph(
        f"""(float[{shape}] x) => (float[{shape}] y) {{
        q0 = MatMul(x, wq) k0 = MatMul(x, wk) q1 = Reshape(q0, hq) k1 = Reshape(k0, hk)
        q = Transpose<perm=[0,2,1,3]>(q1) k = Transpose<perm=[0,2,1,3]>(k1)
        a = Attention<is_causal={int(causal)}>(q, k, k) t = Transpose<perm=[0,2,1,3]>(a)
        f = Reshape(t, flat) o = MatMul(f, wo) y = Add(x, o) }}""",
        wq=normal(channels, channels), wk=normal(channels, heads * width),
        wo=normal(channels, channels), hq=i64(1, count, many, width),
        hk=i64(1, count, heads, width), flat=i64(*map(int, shape.split(","))),
    )  # fmt: skip
    x = normal(*map(int, shape.split(",")))
    result = ChannelsFirst()(solo(part))
    made = result.model.parts["vision"]
    assert [n.op_type for n in made.graph].count("Conv") == 3
    np.testing.assert_allclose(ort(made, x=x)["y"], ort(part, x=x)["y"], rtol=1e-4, atol=1e-4)
