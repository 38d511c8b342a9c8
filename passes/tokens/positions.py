"""Position policies: which positions the kept tokens have, and what marks the dropped ones.

original       kept tokens and words keep their positions (default; test T1)
renumber       0..K-1, and the words close up, as several public codes do
run-end-pad    original, and each run of dropped tokens leaves one token, its mean, at its end
               (POSPAD of FocusUI, CVPR 2026; there with a learned pad, here training-free)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import ascending, marked
from edgevlm.passes.tokens.view import Choice, View

if TYPE_CHECKING:
    from edgevlm.passes.tokens.method import Method

__all__ = ["PAD_SHARE", "POLICIES", "run_end_pad"]

POLICIES = ("original", "renumber", "run-end-pad")
#: of the budget K that may be run ends; where there are fewer runs, further tokens fill the slots
PAD_SHARE = 0.25


def run_end_pad(method: Method, view: View) -> Choice:
    """K slots: the method's own tokens, the ends of dropped runs, and fillers, in raster order.

    Public run-end padding masks the slots that a picture does not need; here the next tokens take
    them, so that no mask is needed and nothing is lost. Run ends hold the mean of their run.
    """
    total, build, count = view.keep, view.build, view.count
    pads = min(int(total * PAD_SHARE), total - 1, count - total)
    view.keep = total - pads
    choice = method.choose(view)
    view.keep = total
    if pads < 1:
        return choice
    one = view.const(1.0)
    kept = marked(build, choice.index, count)  # [N]
    dropped = build("Sub", one, kept)
    next_kept = build("Concat", build("Slice", kept, *_bounds(view, 1, count)), _ones(view), axis=0)
    ends = build("Mul", dropped, next_kept)
    rank = build("Add", build("Mul", kept, view.const(4.0)), build("Mul", ends, view.const(2.0)))
    order = build("Sub", rank, view.const(np.arange(count) / count))
    slots = build("TopK", order, build.const([total]), outputs=2, axis=0)[1]
    index = ascending(build, slots, total)
    content = build("Gather", _padded(view, choice, kept, dropped, ends), index, axis=0)
    view.note(f"{total - pads} tokens by {method.name}, up to {pads} run ends, the rest fillers")
    return Choice(index, content)


def _padded(
    view: View, choice: Choice, kept: ir.Value, dropped: ir.Value, ends: ir.Value
) -> ir.Value:
    """[N,D]: kept tokens as the method left them, run ends as the mean of their run."""
    build = view.build
    tokens = view.tokens
    if choice.content is not None:
        column = build("Unsqueeze", choice.index, build.const([1]))
        tokens = build("ScatterND", tokens, column, choice.content)
    run = build("CumSum", kept, build.const(0))  # the same number along one dropped run
    same = build("Equal", build("Unsqueeze", run, build.const([1])), run)
    member = build("Mul", build("Cast", same, to=ir.DataType.FLOAT.value), dropped)  # [N,N]
    size = build("ReduceSum", member, build.const([1]), keepdims=1)
    mean = build("Div", build("MatMul", member, view.tokens), build("Max", size, view.const(1.0)))
    is_end = build("Cast", build("Unsqueeze", ends, build.const([1])), to=ir.DataType.BOOL.value)
    return build("Where", is_end, mean, tokens)


def _bounds(view: View, start: int, stop: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    return tuple(view.build.const([n]) for n in (start, stop, 0))


def _ones(view: View) -> ir.Value:
    return view.const([1.0])
