"""Choose by score: TopK and ArgMax that give the same tokens on every backend.

Equal scores go to the lower index. ONNX promises that; where a compiler does not, keys are made
unique: by a ramp below the resolution of the score, or, in integers, by the index in the low bits.
Not a number is the lowest score there is, so that an order always exists.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.tokens.forms import Form

__all__ = ["STEP", "ascending", "best", "finite", "keys", "largest", "marked", "unit_range"]

#: scores are held within, so that there is room below for what is taken; float32
LIMIT, TAKEN = 1e38, -3e38
#: one place of float32 between 1 and 2, so keys of equal scores in 0..1 are unique
STEP = 2.0**-23


def finite(build: GraphBuilder, score: ir.Value) -> ir.Value:
    """Not a number becomes the lowest score, infinities the largest numbers."""
    limits = [build.const(sign * LIMIT, np.float32) for sign in (-1, 1)]
    return build("Clip", build("Where", build("IsNaN", score), limits[0], score), *limits)


def unit_range(build: GraphBuilder, score: ir.Value) -> ir.Value:
    """Min-max to 0..1 over all elements; a constant becomes 0."""
    clean = finite(build, score)
    low = build("ReduceMin", clean, keepdims=0)
    span = build("Sub", build("ReduceMax", clean, keepdims=0), low)
    return build(
        "Div", build("Sub", clean, low), build("Max", span, build.const(1e-30, np.float32))
    )


def keys(
    build: GraphBuilder, form: Form, score: ir.Value, count: int, taken: ir.Value | None = None
) -> ir.Value:
    """Keys [N] in the order of the scores [N]: unique unless the form's backend keeps ties.

    taken: float [N], 1 where a token is not to be had again; it then lies below all others.
    """
    if form.ties == "stable":
        clean = finite(build, score)
        if taken is None:
            return clean
        gone = build("Greater", taken, build.const(0.5, np.float32))
        return build("Where", gone, build.const(TAKEN, np.float32), clean)
    unit = unit_range(build, score)
    if taken is not None:
        unit = build("Sub", unit, build("Mul", taken, build.const(2, np.float32)))
    if form.ties == "ramp":
        return build("Sub", unit, build.const(np.arange(count) * STEP, np.float32))
    levels = build("Mul", unit, build.const(2**form.bits - 1, np.float32))
    whole = build("Cast", build("Round", levels), to=ir.DataType.INT64.value)
    high = build("Mul", whole, build.const(2 ** max(1, int(count - 1).bit_length())))
    return build("Add", high, build.const(np.arange(count)[::-1].copy()))


def largest(
    build: GraphBuilder,
    form: Form,
    score: ir.Value,
    count: int,
    keep: int,
    taken: ir.Value | None = None,
) -> ir.Value:
    """Places [k] of the k largest of scores [N], best first."""
    order = keys(build, form, score, count, taken)
    return build("TopK", order, build.const([keep]), outputs=2, axis=0)[1]


def best(build: GraphBuilder, form: Form, score: ir.Value, count: int) -> ir.Value:
    """Place [1] of the largest of scores [N]."""
    return build("ArgMax", keys(build, form, score, count), axis=0, keepdims=1)


def ascending(build: GraphBuilder, index: ir.Value, keep: int) -> ir.Value:
    """Unique places [K] in ascending order."""
    return build("TopK", index, build.const([keep]), outputs=2, axis=0, largest=0)[0]


def marked(build: GraphBuilder, index: ir.Value, count: int) -> ir.Value:
    """Places [k] -> float [N], 1 where taken; a one-hot sum runs where scatter does not."""
    hot = build("OneHot", index, build.const([count]), build.const([0, 1], np.float32), axis=-1)
    return build("ReduceSum", hot, build.const([0]), keepdims=0)
