"""Rows that a norm makes alike anyway: the same function, with nothing tiny in front of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.pieces import Piece
from edgevlm.runtimes.executorch.ethos.cut import Runs, runs_of
from edgevlm.runtimes.executorch.ethos.rows import UNEVEN, even_rows

S, C = 4, 16
RNG = np.random.default_rng(0)
NORM = {"LayerNormalization": "g, b", "RMSNormalization": "g"}
SIZES = np.array([0.04, 0.05, 2.0, 1.0])


def fed(sizes=SIZES, runs=3) -> list[dict[str, np.ndarray]]:
    x = RNG.normal(size=(runs, 1, S, C)) * np.asarray(sizes)[:, None]
    return [{"x": each.astype(np.float32)} for each in x]


def piece_of(graph, op="RMSNormalization", epsilon=1e-6, before="a = Identity(x)", **more):
    words = f"y = {op}<epsilon={epsilon!r}>(a, {NORM[op]})"
    gains = {name: RNG.normal(size=C).astype(np.float32) for name in NORM[op].split(", ")}
    shape = f"float[1,{S},{C}]"
    part = graph(f"({shape} x) => ({shape} y) {{ {before} {words} }}", **gains, **more)
    return Piece("prefill", "device", part)


def runs(piece, feeds) -> Runs:
    return runs_of([piece], feeds)["prefill"]


def scales_of(piece) -> list[np.ndarray]:
    return [n.inputs[1].const_value.numpy() for n in piece.part.graph
            if str(n.name).startswith("even_rows")]  # fmt: skip


@pytest.mark.parametrize("op", NORM)
@pytest.mark.parametrize("before", ["a = Identity(x)", "h = Relu(x) a = Sub(x, h)"])
def test_the_function_stays_and_rows_are_alike(graph, op, before):
    piece, feeds = piece_of(graph, op, before=before), fed()
    even = even_rows(piece, runs(piece, feeds))
    (scale,) = scales_of(even)
    assert scale.shape == (1, S, 1) and 0.3 < scale[0, :, 0].min() * SIZES.max() < 3
    assert 10 < scale.max() / scale.min() < 200
    again = fed()  # of other numbers
    for a, b in zip(runs(piece, again).outputs, runs(even, again).outputs, strict=True):
        np.testing.assert_allclose(b[0], a[0], rtol=5e-3, atol=5e-3)


def test_a_norm_that_reads_the_port_itself(graph):
    shape = f"float[1,{S},{C}]"
    part = graph(
        f"({shape} x) => ({shape} y) {{ y = RMSNormalization(x, g) }}", g=np.ones(C, np.float32)
    )
    piece = Piece("prefill", "device", part)
    assert even_rows(piece, runs(piece, fed())) is not None


def test_each_head_has_sizes_of_its_own(graph):
    part = graph(
        f"""(float[1,2,{S},8] x) => (float[1,2,{S},8] y) {{
        y = RMSNormalization<epsilon=1e-6>(x, g) }}""",
        g=np.ones(8, np.float32),
    )
    x = RNG.normal(size=(1, 2, S, 8)) * np.array([0.04, 2])[:, None, None]
    piece = Piece("prefill", "device", part)
    (scale,) = scales_of(even_rows(piece, runs(piece, [{"x": x.astype(np.float32)}])))
    assert scale.shape == (1, 2, S, 1) and scale[0, 0].min() > 10 * scale[0, 1].max()


def test_rows_that_are_even_stay(graph):
    piece = piece_of(graph)
    assert even_rows(piece, runs(piece, fed([1, 2, 0.5, 1]))) is None
    assert even_rows(piece, Runs()) is None
    assert even_rows(piece, runs(piece, fed([1, 1, 1, UNEVEN * 2]))) is not None


def test_sizes_that_go_by_the_picture_are_no_places(graph):
    """Dark and bright patches, elsewhere in every picture."""
    piece = piece_of(graph)
    feeds = [fed(np.roll(SIZES, i), runs=1)[0] for i in range(4)]
    assert even_rows(piece, runs(piece, feeds)) is None


def test_rows_that_epsilon_decides_stay(graph):
    """Half of its size is not half of what a norm gives of it."""
    piece, feeds = piece_of(graph, epsilon=1e-2), fed()
    assert even_rows(piece, runs(piece, feeds)) is None  # 2 and 1 are alike, the others stay
    feeds = fed([0.001, 0.2, 2.0, 1.0])
    piece = piece_of(graph, epsilon=1e-4)
    (scale,) = scales_of(even_rows(piece, runs(piece, feeds)))
    assert scale[0, 0, 0] == 1 and scale[0, 1, 0] > 3
