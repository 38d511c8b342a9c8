"""One-hot matrices, and products with them in the place of indexing.

    P [K,N], a one where row k is place index[k]      Gather(x [1,N,D], index, axis 1) = P x

A product with ones and zeros is exact: the sums have one term that is not zero. Places and other
integers pass as floats, and are exact up to 2^24 in float32 and 2^11 in float16, which is checked.
A row that is not finite spoils the others, as zero times it is no number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.mobile.bounds import Bounds
from edgevlm.passes.mobile.moves import SAME_ORDER

__all__ = ["WHOLE", "Hot", "float_for"]

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
#: integers up to here are exact
WHOLE = {FLOAT: 2**24, HALF: 2**11}
STORED_BYTES = 2**20  # a larger triangle is computed


def float_for(kind: ir.DataType, most: int) -> ir.DataType:
    """The float that counts to `most`: the one in use, if it can."""
    return HALF if kind == HALF and most <= WHOLE[HALF] else FLOAT


@dataclass
class Hot:
    """Builds into one graph; a matrix that is asked for twice is made once."""

    build: GraphBuilder
    bounds: Bounds
    #: by index, of one row each [...,K,N]: matrices that came before their index did
    rows: dict[ir.Value, ir.Value] = field(default_factory=dict)
    named: set[ir.Value] = field(default_factory=set)  # what stands for a value of the graph
    _made: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    def matrix(
        self, index: ir.Value, count: int, kind: ir.DataType, turned: bool = False
    ) -> ir.Value:
        """[...,K,count] of places [...,K] in `count`, or [...,count,K] where `turned`."""
        key = index, count, kind, turned
        if key not in self._made:
            known = self._known(index, count)
            if known is None:
                made = self._compared(index, count, kind, turned)
            else:
                made = self.cast(self._turned(known) if turned else known, kind)
            self._made[key] = made
        return self._made[key]

    def triangle(self, count: int, kind: ir.DataType, strict: bool, lower: bool) -> ir.Value:
        """[count,count], 1 where row < column (or =, unless strict), or > where `lower`."""
        key = count, kind, strict, lower
        if key in self._made:
            return self._made[key]
        places = np.arange(count)
        sides = (places[None], places[:, None]) if lower else (places[:, None], places[None])
        if count**2 * kind.itemsize <= STORED_BYTES:
            array = sides[0] < sides[1] if strict else sides[0] <= sides[1]
            made = self.build.const(array, kind.numpy())
        else:  # computed when the part is opened: it takes no place in the file
            op = "Less" if strict else "LessOrEqual"
            made = self.build(op, *(self.build.const(side, np.int32) for side in sides))
            made.shape, made.dtype = ir.Shape([count, count]), ir.DataType.BOOL
            made = self.cast(made, kind)
        self._made[key] = made
        return made

    def _known(self, index: ir.Value, count: int) -> ir.Value | None:
        """The matrix that an index was made of, in the index's shape."""
        value = index
        while value not in self.rows:
            node = value.producer()
            if node is None or node.op_type not in SAME_ORDER:
                return None
            value = node.inputs[0]
        known = self.rows[value]
        return self.shaped(known, [*index.shape, count]) if known.shape[-1] == count else None

    def _turned(self, matrix: ir.Value) -> ir.Value:
        rank = len(matrix.shape)
        perm = [*range(rank - 2), rank - 1, rank - 2]
        made = self.build("Transpose", matrix, perm=perm)
        made.shape, made.dtype = ir.Shape([matrix.shape[i] for i in perm]), matrix.dtype
        return made

    def _compared(self, index: ir.Value, count: int, kind: ir.DataType, turned: bool) -> ir.Value:
        shape = [int(d) for d in index.shape]
        if index.const_value is not None:
            places = index.const_value.numpy() % count
            array = places[..., None] == np.arange(count)
            return self.build.const(array.swapaxes(-1, -2) if turned else array, kind.numpy())
        lies = [*shape[:-1], 1, shape[-1]] if turned else [*shape, 1]
        column = self.shaped(index, lies)
        places = np.arange(count).astype(index.dtype.numpy())
        places = places[:, None] if turned else places[None]
        hot = self.equal(column, places)
        low = (self.bounds.of(index) or (-1, 0))[0]
        if low < 0:  # counted from the end
            hot = self.build("Or", hot, self.equal(column, places - count))
            hot.dtype = ir.DataType.BOOL
        hot.shape = ir.Shape([*shape[:-1], count, shape[-1]] if turned else [*shape, count])
        return self.cast(hot, kind)

    def product(self, hot: ir.Value, data: ir.Value, order: str = "left") -> ir.Value:
        """hot x data [...,N,D], or data [...,N] x hot where `order` is "right"; data's type."""
        kind = hot.dtype
        real = self.cast(data, kind)
        made = self.build("MatMul", *((hot, real) if order == "left" else (real, hot)))
        left, right = (hot, data) if order == "left" else (data, hot)
        lead = np.broadcast_shapes(tuple(left.shape[:-2]), tuple(right.shape[:-2]))
        made.shape, made.dtype = ir.Shape([*lead, left.shape[-2], right.shape[-1]]), kind
        return self.cast(made, data.dtype)

    def kind_for(self, data: ir.Value) -> ir.DataType | None:
        """The float in which every number of `data` is itself; None where there is none."""
        if data.dtype in (FLOAT, HALF):
            return data.dtype
        found = self.bounds.of(data)
        if found is None or max(map(abs, found)) > WHOLE[FLOAT]:
            return None
        return FLOAT

    def finite(self, data: ir.Value) -> bool:
        """Of a constant: whether zero times it is zero. What is computed is taken to be."""
        if data.const_value is None or not data.dtype.is_floating_point():
            return True
        return bool(np.isfinite(data.const_value.numpy()).all())

    def equal(self, value: ir.Value, places: np.ndarray) -> ir.Value:
        made = self.build("Equal", value, self.build.const(places, places.dtype))
        made.dtype = ir.DataType.BOOL
        return made

    def cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        if value.dtype == kind:
            return value
        key = value, kind
        if key not in self._made:
            if value.const_value is not None:
                self._made[key] = self.build.const(value.const_value.numpy(), kind.numpy())
            else:
                made = self._made[key] = self.build("Cast", value, to=int(kind))
                made.shape, made.dtype = value.shape, kind
        return self._made[key]

    def shaped(self, value: ir.Value, shape: list[int]) -> ir.Value:
        if list(value.shape) == shape:
            return value
        if value.const_value is not None:
            array = value.const_value.numpy().reshape(shape)
            return self.build.const(array, array.dtype)
        made = self.build("Reshape", value, self.build.const(shape))
        made.shape, made.dtype = ir.Shape(shape), value.dtype
        return made
