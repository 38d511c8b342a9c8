"""Cases of rounding to integers, and of weights that are stored smaller than they are used."""

from __future__ import annotations

import numpy as np
from coreml_case_forms import Row, Rows, ints, normal, uniform

__all__ = ["CASES"]

ROWS = uniform(0.01, 0.1, 4)
X = {"x": normal(3, 4)}


def quantised(kind: str, axis: int | None, zero: bool) -> Row:
    scale = np.array(0.03125) if axis is None else 2.0 ** np.array([-4, -5, -3, -6])
    point = None if not zero else (np.array(5) if axis is None else np.array([1, 2, 3, 4]))
    low, high = (-128, 127) if kind == "int8" else (0, 255)

    def build(mb, t, x):
        more = {} if axis is None else {"axis": axis}
        if zero:
            more["zero_point"] = point.astype(kind)
        return mb.quantize(input=x, scale=t(scale), output_dtype=kind, **more)

    def want(x):
        return np.clip(np.round(x / scale) + (0 if point is None else point), low, high)

    return Row({"x": normal(3, 4) * 3}, build, want)


def dequantised(kind: str, axis: int | None, zero: bool) -> Row:
    scale = np.array(0.03) if axis is None else ROWS
    point = None if not zero else (np.array(5) if axis is None else np.array([1, 2, 3, 4]))
    whole = ints(-100, 100, 3, 4) if kind == "int8" else ints(0, 200, 3, 4)

    def build(mb, t, x):
        more = {} if axis is None else {"axis": axis}
        if zero:
            more["zero_point"] = point.astype(kind)
        return mb.dequantize(input=mb.cast(x=x, dtype=kind), scale=t(scale), **more)

    def want(x, s):
        return (x - (0 if point is None else point)) * s

    return Row({"x": whole}, build, want, more={"s": scale})


def weight(build, want, ios: int = 18, **more: np.ndarray) -> Row:
    """A weight is added to x, since a program needs an input."""

    def whole(mb, t, x):
        return mb.add(x=x, y=build(mb, t)), build(mb, t)

    def sums(x, *rows):
        made = want(*rows)
        return x + made, made

    return Row({"x": np.zeros((4, 6))}, whole, sums, ios=ios, more=more)


def low_bits(kind: str):
    """Numbers of a type that numpy does not have, as coremltools marks them."""

    def make(array):
        from coremltools.converters.mil.mil import types

        return array.astype(types.nptype_from_builtin(types.string_to_builtin(kind)))

    return make


def blockwise(kind: str, scale: np.ndarray, offset: bool) -> Row:
    low, high = {"int8": (-128, 128), "uint8": (0, 256), "int4": (-8, 8), "uint4": (0, 16)}[kind]
    data = ints(low, high, 4, 6)
    shift = ints(max(low, -3), 4, *scale.shape, seed=4)

    def build(mb, t):
        more = {"offset": low_bits(kind)(shift)} if offset else {}
        return mb.constexpr_blockwise_shift_scale(data=low_bits(kind)(data), scale=t(scale), **more)

    def want(s):
        repeats = [n // m for n, m in zip(data.shape, s.shape, strict=True)]
        return np.kron(s, np.ones(repeats)) * (
            data - (np.kron(shift, np.ones(repeats)) if offset else 0)
        )

    return weight(build, want, s=scale)


def palette(bits: int, groups: tuple, width: int = 1, axis: int | None = None) -> Row:
    lut = normal(*groups, 2**bits, width)
    shape = [4, 6]
    if axis is not None:
        shape[axis] //= width
    places = ints(0, 2**bits, *shape)

    def build(mb, t):
        more = {} if axis is None else {"vector_axis": axis}
        return mb.constexpr_lut_to_dense(
            indices=low_bits(f"uint{bits}")(places), lut=t(lut), **more
        )

    def want(table):
        y = np.zeros((4, 6))
        for at in np.ndindex(*shape):
            group = tuple(i * g // n for i, g, n in zip(at, groups, shape, strict=True))
            for k in range(width):
                to = list(at)
                if axis is not None:
                    to[axis] = at[axis] * width + k
                y[tuple(to)] = table[(*group, places[at], k)]
        return y

    return weight(build, want, table=lut)


def packed_palette() -> Row:
    """iOS 16: indices of two bits in bytes, the first in the lowest bits."""
    places = ints(0, 4, 24)
    quads = places.reshape(-1, 4)
    data = (quads << np.array([0, 2, 4, 6])).sum(1).astype(np.uint8)

    def build(mb, t):
        return mb.constexpr_lut_to_dense(indices=data, lut=t([0.5, -1.0, 2.0, 4.0]),
                                         shape=np.array([4, 6], np.uint32))  # fmt: skip

    return weight(build, lambda: np.array([0.5, -1.0, 2.0, 4.0])[places].reshape(4, 6), ios=16)


def affine(axis: int | None) -> Row:
    data = ints(-128, 128, 4, 6)
    zero = np.array(3, np.int8) if axis is None else np.arange(4, dtype=np.int8)
    scale = np.array(0.04) if axis is None else ROWS

    def build(mb, t):
        return mb.constexpr_affine_dequantize(quantized_data=data.astype(np.int8), scale=t(scale),
                                              zero_point=zero, axis=axis or 0)  # fmt: skip

    def want(s):
        return (data - (zero if axis is None else zero[:, None])) * (
            s if axis is None else s[:, None]
        )

    return weight(build, want, ios=16, s=scale)


MASK = np.array([[1, 0, 1, 0, 0, 1]] * 4, np.uint8)
THERE = normal(12)


def sparse(ios: int) -> Row:
    def build(mb, t):
        if ios == 18:
            return mb.constexpr_sparse_to_dense(nonzero_data=t(THERE), mask=low_bits("uint1")(MASK))
        return mb.constexpr_sparse_to_dense(
            nonzero_data=t(THERE), mask=np.packbits(MASK, bitorder="little"),
            shape=np.array([4, 6], np.uint32))  # fmt: skip

    def want(n):
        y = np.zeros((4, 6))
        y[MASK != 0] = n
        return y

    return weight(build, want, ios=ios, n=THERE)


def sparse_scaled() -> Row:
    data, scale = ints(-100, 100, 12), uniform(0.01, 0.1, 4, 1)

    def build(mb, t):
        mask, numbers = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=low_bits("uint1")(MASK), nonzero_data=data.astype(np.int8), scale=t(scale)
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=numbers, mask=mask)

    def want(s):
        y = np.zeros((4, 6))
        y[MASK != 0] = data
        return y * s

    return weight(build, want, s=scale)


def sparse_palette() -> Row:
    places, lut = ints(0, 4, 12), normal(1, 1, 4, 1)

    def build(mb, t):
        mask, numbers = mb.constexpr_lut_to_sparse(
            indices_mask=low_bits("uint1")(MASK),
            indices_nonzero_data=low_bits("uint2")(places),
            lut=t(lut),
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=numbers, mask=mask)

    def want(table):
        y = np.zeros((4, 6))
        y[MASK != 0] = table.reshape(-1)[places]
        return y

    return weight(build, want, table=lut)


def stored_half() -> Row:
    numbers = normal(4, 6)

    def build(mb, t):
        return mb.constexpr_cast(source_val=numbers.astype(np.float16), output_dtype="fp32")

    half = numbers.astype(np.float16).astype(np.float64)
    return Row({"x": np.zeros((4, 6))},
               lambda mb, t, x: mb.add(x=x, y=build(mb, t)), lambda x: x + half,
               types=(np.float32,), ios=16)  # fmt: skip


CASES: dict[str, Rows] = {
    "quantize": [quantised(kind, axis, zero) for kind in ("int8", "uint8")
                 for axis in (None, 1) for zero in (False, True)],
    "dequantize": [dequantised(kind, axis, zero) for kind in ("int8", "uint8")
                   for axis in (None, -1) for zero in (False, True)],
    "constexpr_blockwise_shift_scale": [
        blockwise("int8", uniform(0.01, 0.1, 4, 1), False),
        blockwise("int4", uniform(0.01, 0.1, 4, 2), False),
        blockwise("uint4", uniform(0.01, 0.1, 1, 3), True),
        blockwise("uint8", uniform(0.01, 0.1, 2, 2), True)],
    "constexpr_lut_to_dense": [
        *(palette(bits, (1, 1)) for bits in (1, 2, 3, 4, 6, 8)),
        palette(4, (2, 1)), palette(2, (2, 3)), palette(3, (1, 1), 2, 0), palette(2, (2, 1), 3, 1),
        packed_palette()],
    "constexpr_affine_dequantize": [affine(None), affine(0)],
    "constexpr_sparse_to_dense": [sparse(18), sparse(16)],
    "constexpr_sparse_blockwise_shift_scale": [sparse_scaled()],
    "constexpr_lut_to_sparse": [sparse_palette()],
    "constexpr_cast": [stored_half()],
}  # fmt: skip
