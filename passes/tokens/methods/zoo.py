"""ZOO-Prune: tokens the projector is sensitive to, spread out (2509.24837), in closed form.

    sensitivity  S_i = sqrt(g^T Q g),  g = GELU'(W1^T z_i + b1),  Q = (W2 W2^T) o (W1^T W1)
    keep         first the largest S; then greedily the largest minmax(S) x (1 - max cos to taken)

The paper estimates S_i = E |J(z_i) u| by 64 random directions and 128 runs of the projector. For a
projector of two layers |J|_F^2 is the quadratic form above, whose matrix is known when compiling:
one [N,h] x [h,h] product, no chance. The tests hold it against Monte Carlo on thousands of
directions (rank correlation over .99). `rank` cuts Q to its largest eigenvalues, as the paper cuts
wide projectors to 128. A norm in front of the projector is taken as its input (R). Refuses a linear
projector, whose Jacobian is the same for every token, so that nothing but an arbitrary first pick
would be left; likewise any activation but GELU.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.greedy import max_min
from edgevlm.passes.tokens.pieces.kernels import cosine_distance
from edgevlm.passes.tokens.pieces.scores import ranged
from edgevlm.passes.tokens.view import View

__all__ = ["Zoo", "quadratic_form"]

LARGEST = 30.0  # beyond, the slope of GELU is 0 or 1 in float32


class ZooOptions(MethodOptions):
    rank: int = Field(0, ge=0, le=65536, description="eigenvalues of Q that are kept; 0: all")


class Zoo(Method):
    name = "zoo"
    summary = "sensitivity of the projector times distance, greedy; closed form"
    paper = "2509.24837"
    evidence = "N"
    lowering = "C"
    sites = ("connector-out",)
    greedy = True
    stand_in = "dart"
    Options = ZooOptions

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=max_min(ranged(self._score)), kernel=cosine_distance)

    def _score(self, view: View) -> ir.Value:
        build, projector = view.build, view.projector()
        slope = _slope(view, projector.hidden, projector.approximate)
        form = quadratic_form(projector.first, projector.second)
        if self.options.rank:
            values, vectors = np.linalg.eigh(form)
            few = slice(-self.options.rank, None)
            root = vectors[:, few] * np.sqrt(np.maximum(values[few], 0))
            cut = build("MatMul", slope, view.const(root))
            return build("ReduceL2", cut, build.const([1]), keepdims=0)
        turned = build("MatMul", slope, view.const(form))
        square = build("ReduceSum", build("Mul", turned, slope), build.const([1]), keepdims=0)
        return build("Sqrt", build("Max", square, view.const(0.0)))


def quadratic_form(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Q float64 [h,h] with |J|_F^2 = g^T Q g, of weights [features,h] and [h,D]."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    return (second @ second.T) * (first.T @ first)


def _slope(view: View, z: ir.Value, approximate: str) -> ir.Value:
    """GELU'(z), [N,h], of the exact GELU or of the one by tanh."""
    build, half, one = view.build, view.const(0.5), view.const(1.0)
    z = build("Clip", z, view.const(-LARGEST), view.const(LARGEST))
    square = build("Mul", z, z)
    if approximate == "tanh":
        scale = math.sqrt(2 / math.pi)
        inner = build("Mul", z, build("Add", build("Mul", square, view.const(0.044715)), one))
        turned = build("Tanh", build("Mul", inner, view.const(scale)))
        rise = build("Add", build("Mul", square, view.const(3 * 0.044715)), one)
        bell = build("Mul", build("Sub", one, build("Mul", turned, turned)), rise)
        bell = build("Mul", bell, view.const(scale / 2))
    else:
        turned = build("Erf", build("Mul", z, view.const(math.sqrt(0.5))))
        bell = build("Exp", build("Mul", square, view.const(-0.5)))
        bell = build("Mul", bell, view.const(1 / math.sqrt(2 * math.pi)))
    step = build("Mul", build("Add", turned, one), half)
    return build("Add", step, build("Mul", z, bell))
