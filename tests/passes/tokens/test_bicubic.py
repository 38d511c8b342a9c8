"""Bicubic resampling of position tables, with ONNX Runtime's own Resize as the judge.

torch.nn.functional.interpolate is as near: both work out coordinates in float32.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.bicubic import bicubic, bicubic_matrix

RESIZE = """(float[1,{d},{h},{w}] x) => (float[1,{d},{a},{b}] y) {{
    [r] y = Resize<mode = "cubic", cubic_coeff_a = -0.75,
        coordinate_transformation_mode = "half_pixel">(x, , , sizes) }}"""


@pytest.mark.parametrize(
    ("old", "new"),
    [((8, 8), (4, 4)), ((8, 8), (3, 5)), ((24, 24), (12, 17)), ((7, 5), (9, 5)), ((6, 4), (1, 1))],
    ids=str,
)
def test_rows_then_columns_is_what_onnx_runtime_makes_of_the_grid(graph, old, new):
    table = np.random.default_rng(0).normal(size=(*old, 6)).astype(np.float32)
    text = RESIZE.format(d=6, h=old[0], w=old[1], a=new[0], b=new[1])
    part = graph(text, sizes=np.array([1, 6, *new]))
    want = open_session(part).run(None, {"x": table.transpose(2, 0, 1)[None]})[0][0]
    rows = bicubic(table, new[0])
    got = np.moveaxis(bicubic(np.moveaxis(rows, 1, 0), new[1]), 0, 1)
    np.testing.assert_allclose(got, want.transpose(1, 2, 0), atol=1e-5)
    assert got.dtype == np.float32


@given(old=st.integers(1, 30), new=st.integers(1, 30))
def test_constants_stay_and_so_does_everything_at_the_same_size(old, new):
    assert np.allclose(bicubic_matrix(old, new).sum(1), 1)
    assert np.allclose(bicubic_matrix(old, old), np.eye(old))
    assert np.allclose(bicubic_matrix(old, new), bicubic_matrix(old, new)[::-1, ::-1])
