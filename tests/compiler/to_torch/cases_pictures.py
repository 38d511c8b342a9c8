"""Cases of what slides over pictures, resizes, regroups or normalises them."""

from __future__ import annotations

import numpy as np
from to_torch_case_forms import F, Rows, i64, ints, normal, one

__all__ = ["CASES"]

PICTURE = "float[2,3,7,8] x"
#: windows whose last ones reach beyond the padding, and with other padding at either end
UNEVEN = ("kernel_shape = [3, 3], strides = [2, 3], ceil_mode = 1",
          "kernel_shape = [2, 2], strides = [3, 2], ceil_mode = 1, pads = [1, 0, 1, 1]",
          "kernel_shape = [3, 2], pads = [2, 0, 1, 1]",
          "kernel_shape = [2, 3], strides = [2, 2], pads = [1, 2, 1, 2], dilations = [2, 2]",
          'kernel_shape = [3, 4], strides = [2, 3], auto_pad = "SAME_UPPER"',
          'kernel_shape = [2, 4], strides = [1, 3], auto_pad = "SAME_LOWER"',
          'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "VALID"')  # fmt: skip
PLAIN = ("kernel_shape = [2, 2], strides = [2, 2]",
         "kernel_shape = [3, 3], strides = [2, 1], pads = [1, 1, 1, 1]")  # fmt: skip


def pool(op: str) -> Rows:
    """Pictures by all windows, and rows and volumes."""
    rows: Rows = [(PICTURE, f"y = {op}<{form}>(x)", {}) for form in (*PLAIN, *UNEVEN)]
    return [
        *rows,
        ("float[2,3,9] x", f"y = {op}<kernel_shape = [4], strides = [2], pads = [1, 2]>(x)", {}),
        ("float[1,2,4,5,4] x", f"y = {op}<kernel_shape = [2, 2, 2], ceil_mode = 1,"
         " strides = [2, 2, 2]>(x)", {}),
    ]  # fmt: skip


def counted() -> Rows:
    """Means that count their padding, which is none beyond it."""
    return [
        (PICTURE, f"y = AveragePool<{form}, count_include_pad = 1>(x)", {})
        for form in (PLAIN[1], *UNEVEN[:6])
    ]


def resized(attributes: str, sizes: tuple[int, ...] = (), scales: tuple[float, ...] = (),
            x: str = "float[1,2,5,6] x") -> Rows:  # fmt: skip
    if sizes:
        return [(x, f"y = Resize<{attributes}>(x, , , s)", {"s": ints(*sizes)})]
    return [(x, f"y = Resize<{attributes}>(x, , s)", {"s": np.array(scales, F)})]


COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners",
               "asymmetric")  # fmt: skip


def resizes() -> Rows:
    """Each mode at all coordinates, larger and smaller, by sizes and by scales."""
    rows: Rows = []
    for kind in COORDINATES:
        at = f'coordinate_transformation_mode = "{kind}"'
        for how in ("nearest", "linear", "cubic"):
            rows += resized(f'mode = "{how}", {at}', sizes=(1, 2, 8, 4))
            rows += resized(f'mode = "{how}", {at}', scales=(1, 1, 0.7, 2.3))
        for near in ("round_prefer_ceil", "floor", "ceil"):
            rows += resized(f'nearest_mode = "{near}", {at}', sizes=(1, 2, 10, 3))
    at = 'coordinate_transformation_mode = "pytorch_half_pixel", mode = "linear"'
    rows += resized(at, sizes=(1, 2, 1, 6))
    rows += resized('mode = "cubic", exclude_outside = 1, cubic_coeff_a = -0.5',
                    sizes=(1, 2, 8, 9))  # fmt: skip
    rows += resized('mode = "linear", axes = [3, -2]', sizes=(3, 7))
    for policy in ("not_larger", "not_smaller"):
        rows += resized(f'mode = "linear", axes = [2, 3], keep_aspect_ratio_policy = "{policy}"',
                        sizes=(8, 8))  # fmt: skip
    rows += resized('mode = "linear"', scales=(1, 1, 2), x="float[2,3,5] x")
    rows += resized('mode = "linear"', scales=(1, 1, 2, 0.5, 1.5), x="float[1,2,3,4,4] x")
    rows += resized('mode = "nearest"', scales=(2, 1, 2, 1), x="int32[1,2,3,4] x")
    return rows


def normalised(op: str, channels: int = 4, attributes: str = "") -> Rows:
    weights = {"g": normal(channels), "b": normal(channels, seed=2)}
    return [(f"float[2,{channels}{rest}] x", f"y = {op}{attributes}(x, g, b)", weights)
            for rest in (",5,6", ",7")]  # fmt: skip


STATISTICS = {"g": normal(4), "b": normal(4, seed=2), "m": normal(4, seed=3),
              "v": np.abs(normal(4, seed=4)) + F(0.1)}  # fmt: skip

CASES: dict[str, Rows] = {
    "MaxPool": [*pool("MaxPool"),
                ("uint8[1,2,5,5] byte",
                 "y = MaxPool<kernel_shape = [3, 3], pads = [1, 0, 2, 1]>(byte)", {})],
    "AveragePool": pool("AveragePool") + counted(),
    "LpPool": pool("LpPool")
    + [(PICTURE, f"y = LpPool<kernel_shape = [2, 3], p = {p}>(x)", {}) for p in (1, 3)],
    "GlobalAveragePool": one("GlobalAveragePool", "float[2,3,4,5]")
    + one("GlobalAveragePool", "float[2,3,4]"),
    "GlobalMaxPool": one("GlobalMaxPool", "float[2,3,4,5]") + one("GlobalMaxPool", "float[2,3,4]"),
    "Resize": resizes(),
    "DepthToSpace": [("float[2,12,3,4] x", f'y = DepthToSpace<blocksize = 2, mode = "{mode}">(x)',
                      {}) for mode in ("DCR", "CRD")]
    + one("DepthToSpace", "float[1,18,2,1]", "<blocksize = 3>"),
    "SpaceToDepth": one("SpaceToDepth", "float[2,3,4,6]", "<blocksize = 2>")
    + one("SpaceToDepth", "float[1,2,3,9]", "<blocksize = 3>"),
    "Tile": [("float[2,3] x", "y = Tile(x, n)", {"n": ints(2, 3)}),
             ("int64[2,1,3] x", "y = Tile(x, n)", {"n": ints(1, 4, 1)})],
    "Trilu": [("float[2,4,5] x", "y = Trilu(x)", {}),
              ("float[4,4] x", "y = Trilu<upper = 0>(x)", {}),
              ("float[4,5] x", "y = Trilu<upper = 0>(x, k)", {"k": i64(-1)}),
              ("int64[4,5] x", "y = Trilu(x, k)", {"k": i64(2)}),
              ("bool[3,3] x", "y = Trilu(x)", {})],
    "BatchNormalization": [
        ("float[2,4,5,6] x", "y = BatchNormalization(x, g, b, m, v)", STATISTICS),
        ("float[3,4] x", "y = BatchNormalization<epsilon = 0.1>(x, g, b, m, v)", STATISTICS),
        ("float[2,3,4] x, float[3] g, float[3] m, float[3] positive",
         "y = BatchNormalization(x, g, m, m, positive)", {})],
    "GroupNormalization": normalised("GroupNormalization", 6, "<num_groups = 3>")
    + normalised("GroupNormalization", 4, "<num_groups = 1, epsilon = 0.1>"),
    "InstanceNormalization": normalised("InstanceNormalization")
    + normalised("InstanceNormalization", 3, "<epsilon = 0.1>")
    + [("float[1,4,1,1] x", "y = InstanceNormalization(x, g, b)",
        {"g": normal(4), "b": normal(4, seed=2)})],
    "LRN": [("float[2,7,3,2] x", f"y = LRN<size = {size}, alpha = 0.5, beta = 0.6, bias = 1.5>(x)",
             {}) for size in (1, 3, 9)]
    + one("LRN", "float[2,5,3,2]", "<size = 5>"),
    "LpNormalization": [("float[2,3,4] x", f"y = LpNormalization<axis = {axis}, p = {p}>(x)", {})
                        for axis in (-1, 1) for p in (1, 2)],
    "Hardmax": [("float[2,5] x", "y = Hardmax(x)", {}),
                ("float[2,5,3] x", "y = Hardmax<axis = 1>(x)", {}),
                ("float[3,9] x", "h = Floor(x); y = Hardmax<axis = -1>(h)", {})],
}  # fmt: skip
