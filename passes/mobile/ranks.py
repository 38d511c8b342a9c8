"""TopK and ArgMax by counting: comparisons, sums, and products with constant triangles.

    rank_i  = how many j have s_j > s_i, or s_j = s_i and j < i        0 is the best; each once
    best first   P [K,N] = (rank_i = k)                                places = P 0..N-1
    ascending    kept_i = rank_i < K,  c = kept x triangle,  P = (kept_i c_i = k + 1)

Ties go to the lower place, as ONNX has it. What is no number counts as the lowest there is, as in
passes/tokens/keys.py, so that ranks are an order whatever comes. Counts reach N, which float32 has
up to 2^24 and float16 up to 2048; beyond that they are float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.passes.mobile.hot import Hot, float_for

__all__ = ["Chosen", "first_largest", "largest_ascending", "largest_first"]

BOOL, INT = ir.DataType.BOOL, ir.DataType.INT64


@dataclass(frozen=True)
class Chosen:
    """What a TopK or ArgMax along the last axis gives, of scores [...,N]."""

    hot: ir.Value  # float [...,K,N]
    index: ir.Value  # int64 [...,K]


def largest_first(hot: Hot, score: ir.Value, keep: int, largest: bool = True) -> Chosen:
    """The K largest, or smallest, best first."""
    rank, count = _ranks(hot, score, largest)
    wanted = np.arange(keep).astype(rank.dtype.numpy())[:, None]
    return _chosen(hot, hot.equal(rank, wanted), rank.dtype, keep, count)


def largest_ascending(hot: Hot, score: ir.Value, keep: int, largest: bool = True) -> Chosen:
    """The same K in the order of their places."""
    build = hot.build
    rank, count = _ranks(hot, score, largest)
    kind = rank.dtype
    inside = build("Less", rank, build.const(np.array(keep), kind.numpy()))
    inside.dtype, inside.shape = BOOL, rank.shape
    return _numbered(hot, hot.cast(inside, kind), keep, count)


def first_largest(hot: Hot, score: ir.Value, largest: bool = True, last: bool = False) -> Chosen:
    """One place: of equal scores the first, or the last."""
    build, (*lead, count) = hot.build, _sizes(score)
    clean, kind = _numbers(hot, score), float_for(score.dtype, int(score.shape[-1]))
    clean = hot.shaped(clean, [*lead, 1, count])
    best = build("ReduceMax" if largest else "ReduceMin", clean, build.const([-1]), keepdims=1)
    best.shape, best.dtype = ir.Shape([*lead, 1, 1]), clean.dtype
    same = build("Equal", clean, best)
    same.dtype, same.shape = BOOL, ir.Shape([*lead, 1, count])
    return _numbered(hot, hot.cast(same, kind), 1, count, last)


def _ranks(hot: Hot, score: ir.Value, largest: bool) -> tuple[ir.Value, int]:
    """float [...,1,N], and N: how many come before each."""
    build, (*lead, count) = hot.build, _sizes(score)
    kind = float_for(score.dtype, count)
    clean = _numbers(hot, score)
    other = hot.shaped(clean, [*lead, count, 1])  # j, which may come before
    own = hot.shaped(clean, [*lead, 1, count])  # i
    square = ir.Shape([*lead, count, count])
    better = build("Greater" if largest else "Less", other, own)
    equal = build("Equal", other, own)
    for value in (better, equal):
        value.dtype, value.shape = BOOL, square
    ties = build("Mul", hot.cast(equal, kind), hot.triangle(count, kind, strict=True, lower=False))
    before = build("Add", hot.cast(better, kind), ties)
    before.shape, before.dtype = square, kind
    return hot.product(build.const(np.ones((1, count)), kind.numpy()), before), count


def _numbered(hot: Hot, kept: ir.Value, keep: int, count: int, last: bool = False) -> Chosen:
    """kept: 1 where a place is wanted, [...,1,N]; the first `keep` of them, ascending."""
    kind = kept.dtype
    run = hot.product(kept, hot.triangle(count, kind, strict=False, lower=last))
    place = hot.build("Mul", kept, run)  # 0 where it is not kept
    place.shape, place.dtype = kept.shape, kind
    wanted = np.arange(1, keep + 1).astype(kind.numpy())[:, None]
    return _chosen(hot, hot.equal(place, wanted), kind, keep, count)


def _chosen(hot: Hot, is_it: ir.Value, kind: ir.DataType, keep: int, count: int) -> Chosen:
    lead = [int(d) for d in is_it.producer().inputs[0].shape[:-2]]
    is_it.shape = ir.Shape([*lead, keep, count])
    matrix = hot.cast(is_it, kind)
    places = hot.build.const(np.arange(count)[:, None], kind.numpy())
    index = hot.shaped(hot.product(matrix, places), [*lead, keep])
    return Chosen(matrix, hot.cast(index, INT))


def _numbers(hot: Hot, score: ir.Value) -> ir.Value:
    """Scores without NaN."""
    if not score.dtype.is_floating_point() or hot.bounds.of(score) is not None:
        return score
    asked = hot.build("IsNaN", score)
    lowest = hot.build.const(-np.inf, score.dtype.numpy())
    clean = hot.build("Where", asked, lowest, score)
    for value, kind in ((asked, BOOL), (clean, score.dtype)):
        value.shape, value.dtype = score.shape, kind
    return clean


def _sizes(value: ir.Value) -> list[int]:
    return [int(d) for d in value.shape]
