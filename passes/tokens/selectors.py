"""Selectors: which K of N tokens stay. Each returns an int64 value [K], ascending, unique, exact.

A selector is a function (build, tokens [1,N,D], K) -> index value; `tokens` are the features it
looks at. It runs inside the graph, so nothing in it depends on data except the indices themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["SELECTORS", "dart", "stride", "stride_index"]

Selector = Callable[[GraphBuilder, ir.Value, int], ir.Value]

#: image pivots of DART; NVIDIA's port and the paper use four for the image
PIVOTS = 4
#: larger than any cosine difference: puts taken tokens behind all others
BIG = 8.0
#: of float32 features; between the two, dividing by the largest magnitude is exact to rounding
LARGEST, SMALLEST = 3e38, 1e-30
#: scores closer than the number of tokens times this are a tie
STEP = 2.0**-23


def stride_index(count: int, keep: int) -> np.ndarray:
    """floor((i + 0.5) N / K), int64 [K]: evenly spread, centred in each stretch."""
    return ((np.arange(keep) + 0.5) * count / keep).astype(np.int64)


def stride(build: GraphBuilder, tokens: ir.Value, keep: int) -> ir.Value:
    """Every (N/K)th token: the floor every method is compared with. Costs nothing at run time."""
    return build("Identity", build.const(stride_index(int(tokens.shape[1]), keep)))


def dart(build: GraphBuilder, tokens: ir.Value, keep: int) -> ir.Value:
    """Duplication-aware reduction (DART, arXiv 2502.11494), loop-free.

    A few pivots (largest L1 norm) stay; each pivot then adds an equal share of the tokens least
    like it (lowest cosine) that are not taken yet. One [N,D] x [D,P] product and P + 1 small TopKs.
    For K <= P the K strongest tokens stay.
    """
    count = int(tokens.shape[1])
    pivots = min(PIVOTS, keep)
    flat = _scaled(build, build("Reshape", tokens, build.const([count, int(tokens.shape[2])])))
    strength = build("ReduceMean", build("Abs", flat), build.const([1]), keepdims=0)
    _, pivot = build("TopK", _untie(build, strength, count), build.const([pivots]), outputs=2)
    chosen = [pivot]
    if keep > pivots:
        length = build(
            "Max",
            build("ReduceL2", flat, build.const([1]), keepdims=1),
            build.const(1e-12, np.float32),
        )
        unit = build("Div", flat, length)
        cosine = build(
            "MatMul", build("Gather", unit, pivot, axis=0), build("Transpose", unit, perm=[1, 0])
        )  # [P,N]
        taken = _mark(build, pivot, count)
        shares = [len(part) for part in np.array_split(np.arange(keep - pivots), pivots)]
        for row, share in enumerate(s for s in shares if s):
            likeness = build("Gather", cosine, build.const(row), axis=0)
            score = build(
                "Sub", build("Neg", likeness), build("Mul", taken, build.const(BIG, np.float32))
            )
            _, picked = build("TopK", _untie(build, score, count), build.const([share]), outputs=2)
            chosen.append(picked)
            taken = build("Add", taken, _mark(build, picked, count))
    index = chosen[0] if len(chosen) == 1 else build("Concat", *chosen, axis=0)
    ascending, _ = build("TopK", index, build.const([keep]), outputs=2, largest=0)
    return ascending


def _scaled(build: GraphBuilder, flat: ir.Value) -> ir.Value:
    """Divided by the largest magnitude there is: no norm overflows, in float16 neither.

    Not a number counts as nothing and infinity as the largest number, because either would make
    TopK's order, and with it the promise of unique indices, undefined.
    """
    flat = build("Where", build("IsNaN", flat), build.const(0, np.float32), flat)
    limits = (build.const(sign * LARGEST, np.float32) for sign in (-1, 1))
    flat = build("Clip", flat, *limits)
    peak = build("ReduceMax", build("Abs", flat), build.const([0, 1]), keepdims=1)
    return build("Div", flat, build("Max", peak, build.const(SMALLEST, np.float32)))


def _untie(build: GraphBuilder, score: ir.Value, count: int) -> ir.Value:
    """Equal scores go to the lower index on every backend, not only where TopK promises it.

    A step is one place of float32 between 1 and 2, so keys of equal scores in [-1, 1] are unique.
    """
    return build("Sub", score, build.const(np.arange(count) * STEP, np.float32))


def _mark(build: GraphBuilder, index: ir.Value, count: int) -> ir.Value:
    """[k] indices -> float [N], 1 where taken; a one-hot sum runs where scatter does not."""
    hot = build("OneHot", index, build.const([count]), build.const([0, 1], np.float32), axis=-1)
    return build("ReduceSum", hot, build.const([0]), keepdims=0)


SELECTORS: dict[str, Selector] = {"stride": stride, "dart": dart}
