"""Windows and tables of pictures, drawn: torch gives what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.to_torch import Dialect, to_torch  # noqa: E402

COORDINATES = ["half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners",
               "asymmetric"]  # fmt: skip
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@settings(max_examples=80)
@given(
    sizes=st.tuples(st.integers(1, 7), st.integers(2, 7)),
    new=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    kind=st.sampled_from(COORDINATES),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    near=st.sampled_from(NEAREST),
)
def test_pictures_of_any_size(sizes, new, kind, mode, near, graph_of, equal):
    part = graph_of(
        f"float[1,2,{sizes[0]},{sizes[1]}] x",
        f'y = Resize<mode = "{mode}", nearest_mode = "{near}",'
        f' coordinate_transformation_mode = "{kind}">(x, , , s)',
        {"s": np.array([1, 2, *new])},
    )
    equal(part, {"x": numbers(1, 2, *sizes)})


@settings(max_examples=80)
@given(
    op=st.sampled_from(["MaxPool", "AveragePool", "LpPool"]),
    size=st.integers(7, 12),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    ceil=st.booleans(),
    counted=st.booleans(),
)
def test_windows_of_any_form(
    op, size, kernel, stride, dilation, pads, ceil, counted, graph_of, equal
):
    """Padding is less than a window, as ONNX has it."""
    pads = [min(p, kernel - 1) for p in pads]
    form = f"kernel_shape = [{kernel}], strides = [{stride}], dilations = [{dilation}]"
    form += f", pads = {pads}, ceil_mode = {int(ceil)}"
    form += f", count_include_pad = {int(counted)}" if op == "AveragePool" else ""
    part = graph_of(f"float[1,2,{size}] x", f"y = {op}<{form}>(x)", {})
    equal(part, {"x": numbers(1, 2, size)})


@pytest.mark.parametrize("size", [2, 4, 6])
def test_neighbours_of_an_even_number(size, graph_of):
    """By the sums of the specification: ONNX Runtime takes odd numbers only."""
    part = graph_of("float[2,7,2,3] x", f"y = LRN<size = {size}, alpha = 0.5>(x)", {})
    x = numbers(2, 7, 2, 3)
    want = np.empty_like(x)
    for c in range(7):
        first, last = max(0, c - (size - 1) // 2), min(6, c + -(-(size - 1) // 2))
        squares = (x[:, first : last + 1] ** 2).sum(1)
        want[:, c] = x[:, c] / (1 + 0.5 / size * squares) ** 0.75
    found = to_torch(part)({"x": torch.from_numpy(x)})["y"]
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_a_vector_of_zeros_has_no_direction(p, graph_of, equal):
    part = graph_of("float[2,3] x", f"y = LpNormalization<p = {p}>(x)", {})
    equal(part, {"x": np.array([[0, 0, 0], [3, -4, 0]], np.float32)})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_table_in_place_of_an_op_that_tools_read_in_their_own_way(mode, graph_of):
    """A call or two for each axis, and the table is a constant in the format of the picture."""
    part = graph_of(
        "float16[1,2,5,6] x", f'y = Resize<mode = "{mode}">(x, , , s)', {"s": [1, 2, 8, 3]}
    )
    net = to_torch(part, Dialect(linear=True))
    names = exported(net, torch.ones(1, 2, 5, 6, dtype=torch.float16))
    assert not [n for n in names if "upsample" in n or "interpolate" in n or "aten.to." in n]
    assert sum("index_select" in n or "linear" in n for n in names) == 2


def exported(net, x) -> list[str]:
    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, given):
            return tuple(self.net({"x": given}).values())

    program = torch.export.export(Positional(), (x,), strict=False)
    return [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
