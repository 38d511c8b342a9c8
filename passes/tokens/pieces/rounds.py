"""Choose in fixed rounds: several tokens a round, each round against all that is taken.

state     a_i = max of likeness to what is taken      d_i = min of distance to what is taken
a round   takes the B of largest 1 - (1 + weight x d_i) a_i, then updates a and d

As 1 + weight x d_i does not depend on j, max_j (1 + weight x d_i) M_ij = (1 + weight x d_i) a_i
exactly (checked in the tests), so a round is one TopK and two reductions, never [N,K].
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import largest, marked
from edgevlm.passes.tokens.view import View

__all__ = ["in_rounds", "round_sizes"]


def round_sizes(view: View, picks: int, batch: int, used: int) -> list[int]:
    """Picks of each round: `batch` and a rest, or larger ones where the target's chain is short.

    used: dependent steps that came before.
    """
    rounds = -(-picks // batch)
    room = max(1, view.form.steps - used)
    if rounds > room:
        sizes = [len(part) for part in np.array_split(np.arange(picks), room)]
        view.note(f"{picks} tokens in {room} rounds of up to {sizes[0]} instead of {batch}")
        return sizes
    return [min(batch, picks - i * batch) for i in range(rounds)]


def in_rounds(
    view: View,
    first: ir.Value,
    likeness: ir.Value,
    distance: ir.Value,
    weight: float,
    sizes: list[int],
) -> ir.Value:
    """Places [P + sum of sizes], in the order in which they were taken.

    first: int64 [P], taken before; likeness, distance: float32 [N,N].
    """
    build, one, factor = view.build, view.const(1.0), view.const(weight)
    taken, last = [first], first
    gone, like, near = marked(build, first, view.count), None, None
    for size in sizes:
        rows = build("Gather", likeness, last, axis=0)
        steps = build("Gather", distance, last, axis=0)
        highest = build("ReduceMax", rows, build.const([0]), keepdims=0)
        nearest = build("ReduceMin", steps, build.const([0]), keepdims=0)
        like = highest if like is None else build("Max", like, highest)
        near = nearest if near is None else build("Min", near, nearest)
        spread = build("Add", one, build("Mul", near, factor))
        score = build("Sub", one, build("Mul", spread, like))
        last = largest(build, view.form, score, view.count, size, gone)
        gone = build("Add", gone, marked(build, last, view.count))
        taken.append(last)
    return taken[0] if len(taken) == 1 else build("Concat", *taken, axis=0)
