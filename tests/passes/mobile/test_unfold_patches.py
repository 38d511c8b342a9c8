"""unfold-patches: windows side by side become rows; all other convolutions stay."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.mobile.unfold_patches import UnfoldPatches

NEAR = {"rtol": 1e-5, "atol": 1e-5}  # the same products, added up in another order
RNG = np.random.default_rng(0)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def kinds(result) -> list[str]:
    return [n.op_type for n in result.model.parts["vision"].graph]


def notes(result) -> list[tuple[str, str]]:
    return [(n.kind, n.why) for n in result.notes]


TOKENS = (
    "a = Conv<strides=[4,4]>(x, w, b) c = Reshape(a, s) d = Transpose<perm=[0,2,1]>(c) y = Neg(d)"
)


def test_patches_to_tokens(graph, apply):
    """One transpose unfolds, and the one that made tokens of channels is not needed any more."""
    part = graph(
        f"(float[1,3,8,12] x) => (float[1,6,5] y) {{ {TOKENS} }}",
        w=real(5, 3, 4, 4), b=real(5), s=i64(1, 5, 6),
    )  # fmt: skip
    result = apply(UnfoldPatches(), part, **NEAR, x=real(1, 3, 8, 12))
    assert kinds(result) == ["Reshape", "Transpose", "Reshape", "MatMul", "Add", "Neg"]
    assert notes(result) == [("matched", "6 patches of 48 numbers")]
    values = [v for n in result.model.parts["vision"].graph for v in n.outputs]
    assert max(len(v.shape) for v in values) == 4
    (w,) = [n.inputs[1].const_value for n in result.model.parts["vision"].graph
            if n.op_type == "MatMul"]  # fmt: skip
    assert list(w.shape) == [48, 5]


def test_a_piece_of_the_map_that_no_moves_give_is_cut_as_before(graph, apply):
    part = graph(
        "(float[1,3,12,12] x) => (float[1,8,3,2] y) {"
        " c = Conv<strides=[4,4]>(x, w) s = Slice(c, low, high, axis, step) y = Relu(s) }",
        w=real(8, 3, 4, 4), low=i64(0), high=i64(3), axis=i64(2), step=i64(2),
    )  # fmt: skip
    part.graph.outputs[0].shape = None
    result = apply(UnfoldPatches(), part, **NEAR, x=real(1, 3, 12, 12))
    assert "Conv" not in kinds(result) and "Slice" in kinds(result)


def test_a_map_of_channels_is_turned_back(graph, apply):
    part = graph(
        "(float[1,3,8,12] x) => (float[1,5,2,3] y, float[1,2,3,5] z) {"
        " y = Conv<strides=[4,4]>(x, w) z = Transpose<perm=[0,2,3,1]>(y) }",
        w=real(5, 3, 4, 4),
    )
    result = apply(UnfoldPatches(), part, **NEAR, x=real(1, 3, 8, 12))
    assert kinds(result).count("Transpose") == 2 and "Conv" not in kinds(result)
    assert [v.name for v in result.model.parts["vision"].graph.outputs] == ["y", "z"]


def test_a_picture_that_is_scaled_first(graph, apply):
    part = graph(
        "(float[1,3,8,8] x) => (float[1,5,2,2] y) { c = Sub(x, mean) d = Div(c, std)"
        " y = Conv<strides=[4,4]>(d, w) }",
        w=real(5, 3, 4, 4), mean=real(3, 1, 1), std=np.full((3, 1, 1), 0.5, np.float32),
    )  # fmt: skip
    assert apply(UnfoldPatches(), part, **NEAR, x=real(1, 3, 8, 8)).changed


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.int4])
@pytest.mark.parametrize("whole", [False, True])
def test_codes_stay_codes(graph, apply, dtype, whole):
    low = -8 if dtype is ml_dtypes.int4 else -128
    part = graph(
        "(float[1,3,8,12] x) => (float[1,6,5] y) { q = QuantizeLinear<output_dtype=3>(x, t)"
        f" r = DequantizeLinear(q, t) w = DequantizeLinear<axis=0>(codes, s0) "
        f"{TOKENS.replace('(x', '(r')} }}",
        codes=RNG.integers(low, -low, size=(5, 3, 4, 4)).astype(dtype),
        s0=np.float32(0.1) if whole else RNG.uniform(0.1, 0.2, size=5).astype(np.float32),
        t=np.float32(0.05), b=real(5), s=i64(1, 5, 6),
    )  # fmt: skip
    result = apply(UnfoldPatches(), part, rtol=1e-4, atol=1e-4, x=real(1, 3, 8, 12))
    (product,) = [n for n in result.model.parts["vision"].graph if n.op_type == "MatMul"]
    read, weights = (v.producer() for v in product.inputs)
    assert read.op_type == weights.op_type == "DequantizeLinear"
    assert read.inputs[0].dtype.name == "INT8"  # the picture is unfolded as codes
    stored = weights.inputs[0]
    assert stored.const_value.numpy().dtype == np.dtype(dtype) and list(stored.shape) == [48, 5]
    assert weights.attributes["axis"].value == 1
    assert list(weights.inputs[1].shape) == ([] if whole else [5])


def test_frames_of_a_video_whose_patches_come_in_a_row(graph, apply):
    """Qwen2-VL: each row is a patch of two frames already, seen as five axes by a Conv of three."""
    part = graph(
        "(float[6,96] x) => (float[6,5] y) { z = Reshape(x, t) a = Conv<strides=[2,4,4]>(z, w)"
        " y = Reshape(a, s) }",
        w=real(5, 3, 2, 4, 4), t=i64(6, 3, 2, 4, 4), s=i64(6, 5),
    )  # fmt: skip
    result = apply(UnfoldPatches(), part, **NEAR, x=real(6, 96))
    assert "Transpose" not in kinds(result) and notes(result)[0][1] == "6 patches of 96 numbers"


WORDS = "Conv<strides=[4,4]>(x, w)"
REFUSED = {
    "padding": ("Conv<strides=[4,4], pads=[0,0,4,4]>(x, w)", (5, 3, 4, 4), "its input is padded"),
    "overlap": (
        "Conv<strides=[2,2]>(x, w)", (5, 3, 4, 4), "its windows of 4 x 4 do not lie side by side"
    ),
    "groups": ("Conv<strides=[4,4], group=3>(x, w)", (6, 1, 4, 4), "it has groups or dilation"),
    "dilation": (
        "Conv<strides=[2,2], dilations=[2,2]>(x, w)", (5, 3, 2, 2), "it has groups or dilation"
    ),
    "border": (
        "Conv<strides=[5,5]>(x, w)", (5, 3, 5, 5), "windows of 5 x 5 leave a border of 8 x 8"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_sentence(case, graph, apply):
    words, shape, why = REFUSED[case]
    part = graph(f"(float[1,3,8,8] x) => (float[N] y) {{ c = {words} y = Reshape(c, all) }}",
                 w=real(*shape), all=i64(-1))  # fmt: skip
    result = apply(UnfoldPatches(), part, x=real(1, 3, 8, 8))
    assert not result.changed and notes(result) == [("skipped", why)]


def test_what_reads_no_input_of_the_part_stays(graph, apply):
    """A merge of neighbours deep inside is no picture: nobody else can unfold it."""
    part = graph(
        "(float[1,3,8,8] x) => (float[1,4,1,1] y) { h = Conv<strides=[4,4]>(x, w)"
        " y = Conv<strides=[2,2]>(h, v) }",
        w=real(5, 3, 4, 4), v=real(4, 5, 2, 2),
    )  # fmt: skip
    result = apply(UnfoldPatches(), part, **NEAR, x=real(1, 3, 8, 8))
    assert kinds(result).count("Conv") == 1
    assert ("skipped", "h is computed, and no input of the part") in notes(result)


def test_weights_that_are_computed_or_rounded_in_blocks(graph, apply):
    part = graph(
        "(float[1,3,4,4] x, float[5,3,4,4] z) => (float[1,5,1,1] y) {"
        " y = Conv<strides=[4,4]>(x, z) }"
    )
    result = apply(UnfoldPatches(), part, x=real(1, 3, 4, 4), z=real(5, 3, 4, 4))
    assert notes(result) == [("skipped", "its weights are computed")]


@settings(max_examples=40)
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 4),
    grid=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    data=st.data(),
)
def test_any_sizes(batch, channels, grid, data, graph, apply):
    """One, two and three spatial axes, several pictures, one patch or many."""
    kernel = [data.draw(st.integers(1, 3)) for _ in grid]
    shape = [batch, channels, *(g * k for g, k in zip(grid, kernel, strict=True))]
    out = [batch, 4, *grid]
    words = [",".join(map(str, s)) for s in (shape, out, kernel)]
    part = graph(
        f"(float[{words[0]}] x) => (float[{words[1]}] y) {{"
        f" y = Conv<strides=[{words[2]}]>(x, w, b) }}",
        w=real(4, channels, *kernel), b=real(4),
    )  # fmt: skip
    result = apply(UnfoldPatches(), part, **NEAR, x=real(*shape))
    assert result.changed and "Conv" not in kinds(result)
