"""How many bits each layer gets, so that the model's outputs suffer least at a given average.

    loss[layer][bits] = sensitivity at 4 bits, measured x error of the weights at those bits / at 4
    cost[layer][bits] = bits x weights, outliers and their places included
    least sum of losses at the budget: compiler/budget.py, exact

What is measured is the error of the first token's logits, of a vision layer's too (of a decode step
for weights that only decode has). To first order it is proportional to the power of the noise that
a layer's weights bring in; so one measurement a layer does for all choices. Losses add up as if
layers did not touch each other: the note gives the sum beside the joint loss that is measured
behind the pass (F3 of SODA, with bits for choices). Layers whose weights are shared count once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.budget import allocate
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.reference import Reference
from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.rounding import to_nearest
from edgevlm.passes.quantize.scheme import Scheme
from edgevlm.passes.quantize.sensitivity import sensitivities, to_logits

__all__ = ["BITS", "Mixed", "mixed_bits", "stored_bits"]

BITS = (8, 6, 5, 4, 3)
MEASURED = 4
PARTS_A_BIT = 1000  # costs are whole numbers: thousandths of a bit


@dataclass(frozen=True)
class Mixed:
    """By key of a layer its scheme; what each would have lost alone, at the bits it got."""

    schemes: dict[str, Scheme]
    loss: dict[str, float]
    average: float  # bits a weight


def mixed_bits(
    parts: Mapping[Role, ir.Model],
    layers: Mapping[Role, Sequence[tuple[Layer, Scheme]]],
    seen: Reference,
    average: float,
) -> Mixed | None:
    """Of products with the scheme each is to have but for its bits; None where there is none.

    Raises UsageFault EV202 where not even the fewest bits stay below the average.
    """
    found: dict[str, tuple[Layer, Scheme, float]] = {}
    for role, part in parts.items():
        mine = {layer.key: (layer, scheme) for layer, scheme in layers[role]}
        fresh = [pair for key, pair in mine.items() if key not in found]
        feeds = seen.fed(role)
        errors = [0.0] * len(fresh)
        if fresh and feeds:
            mine = [layer for layer, _ in fresh]
            errors = sensitivities(part, mine, _coarse, feeds, to_logits(parts, seen, role))
        for (layer, scheme), error in zip(fresh, errors, strict=True):
            found[layer.key] = (layer, scheme, error)
    if not found:
        return None
    rows = list(found.values())
    choices = [[with_bits(scheme, bits) for bits in BITS] for _, scheme, _ in rows]
    loss = [_losses(layer, error) for layer, _, error in rows]
    cost = [
        [round(PARTS_A_BIT * stored_bits(s, _inputs(layer))) * _weights(layer) for s in mine]
        for (layer, _, _), mine in zip(rows, choices, strict=True)
    ]
    total = sum(_weights(layer) for layer, _, _ in rows)
    best = allocate(loss, cost, math.floor(PARTS_A_BIT * average * total))
    if best is None:
        least = sum(min(c) for c in cost) / total / PARTS_A_BIT
        raise UsageFault(
            "EV202",
            f"{average} bits a weight on average",
            f"the fewest these layers take is {least:.2f}, outliers included",
            "give a larger average",
        )
    picked = list(zip(found, range(len(rows)), best.choices, strict=True))
    return Mixed(
        {key: choices[i][c] for key, i, c in picked},
        {key: loss[i][c] for key, i, c in picked},
        best.cost / total / PARTS_A_BIT,
    )


def with_bits(scheme: Scheme, bits: int) -> Scheme:
    """Outliers apart are for 6 bits and fewer."""
    method = "gptq" if scheme.splits and bits > 6 else scheme.method
    return Scheme(**(scheme.model_dump() | {"bits": bits, "method": method}))


def stored_bits(scheme: Scheme, inputs: int) -> float:
    """Bits a weight takes, with outliers and the places of these in a row of so many."""
    if not scheme.splits:
        return scheme.bits
    place = math.ceil(math.log2(max(2, inputs)))
    return scheme.bits + scheme.outliers * (scheme.outlier_bits + place)


def _coarse(layer: Layer) -> np.ndarray:
    return to_nearest(layer.rows(), Grid(MEASURED), 0, "mse").weights()


def _losses(layer: Layer, measured: float) -> list[float]:
    rows = np.asarray(layer.rows(), np.float64)
    errors = {
        bits: float(np.square(rows - to_nearest(rows, Grid(bits), 0, "mse").weights()).sum())
        for bits in BITS
    }
    return [measured * errors[bits] / (errors[MEASURED] or 1.0) for bits in BITS]


def _weights(layer: Layer) -> int:
    return math.prod(int(d) for d in layer.weight.shape)


def _inputs(layer: Layer) -> int:
    return _weights(layer) // int(layer.weight.shape[layer.axis])
