"""Cases of activations, functions of angles, bits: what takes numbers one by one."""

from __future__ import annotations

import numpy as np
from to_torch_case_forms import F, Rows, ints, normal, one

__all__ = ["CASES"]

#: both infinities, and what is none
INFINITE = {"c": np.array([np.inf, 1, -np.inf, np.nan], F)}


def bits(op: str) -> Rows:
    """Of whole numbers, signed and not, with broadcasting."""
    mask = np.array([2, 3, 1])
    return [
        (f"{kind}[2,3] {name}", f"y = {op}({name}, m)", {"m": mask.astype(kind)})
        for kind, name in (("int64", "x"), ("int32", "x"), ("uint8", "byte"))
    ]


CASES: dict[str, Rows] = {
    # functions of angles, and their inverses where they have one
    **{op: one(op) for op in ("Asinh", "Atan", "Cosh", "Sinh", "Tan")},
    **{op: one(op, name="unit") for op in ("Acos", "Asin", "Atanh")},
    "Acosh": one("Acosh", name="above"),
    # activations
    **{op: one(op) for op in ("HardSwish", "Mish", "Softsign")},
    "Celu": one("Celu") + one("Celu", attributes="<alpha = 2.5>"),
    "Elu": one("Elu") + one("Elu", attributes="<alpha = 0.3>"),
    "HardSigmoid": one("HardSigmoid") + one("HardSigmoid", attributes="<alpha = 0.7, beta = 0.4>"),
    "LeakyRelu": one("LeakyRelu") + one("LeakyRelu", attributes="<alpha = 0.4>"),
    "PRelu": [("float[2,3,4] x", "y = PRelu(x, s)", {"s": normal(3, 1)}),
              ("float[2,3,4] x", "y = PRelu(x, s)", {"s": normal(1)}),
              ("float[2,3] x, float[2,3] s", "y = PRelu(x, s)", {})],
    "Selu": one("Selu") + one("Selu", attributes="<alpha = 0.5, gamma = 2.0>"),
    "Shrink": one("Shrink") + one("Shrink", attributes="<bias = 0.3, lambd = 0.8>"),
    "Softplus": [*one("Softplus"),
                 ("float[2,3] x", "h = Mul(x, c); y = Softplus(h)", {"c": F(40)})],
    "ThresholdedRelu": one("ThresholdedRelu", attributes="<alpha = 0.2>") + one("ThresholdedRelu"),
    # of several tensors
    **{op: [("float[2,1,3] a, float[4,1] b", f"y = {op}(a, b)", {}),
            ("float[2,3] a, float[3] b", f"y = {op}(a, b, c)", {"c": normal(2, 1)}),
            ("float[2,3] a", f"y = {op}(a)", {})] for op in ("Mean", "Sum")},
    "Swish": one("Swish") + one("Swish", attributes="<alpha = 1.7>"),
    # types, tests, and what only training does
    "CastLike": [("int64[2,3] x", "y = CastLike(x, t)", {"t": F(0)}),
                 ("float[2,3] x, int32[1] t", "y = CastLike(x, t)", {}),
                 ("float[2,3] x, bool[2] t", "y = CastLike(x, t)", {})],
    "Dropout": [("float[2,3] x", "y = Dropout(x)", {}),
                ("float[2,3] x", "y, z = Dropout(x, r)", {"r": F(0.9)}),
                ("float[2,3] x", "y = Dropout(x, r, t)", {"r": F(0.9), "t": np.array(False)})],
    "IsInf": [("float[3,4] x", f"m = Mul(x, c); y = IsInf{how}(m)", INFINITE) for how in (
        "", "<detect_negative = 0>", "<detect_positive = 0>",
        "<detect_negative = 0, detect_positive = 0>")],
    # bits
    **{op: bits(op) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "BitwiseNot": one("BitwiseNot", "int64[2,3]") + one("BitwiseNot", "uint8[2,3]", name="byte"),
    "BitShift": [("uint8[2,3] byte", f'y = BitShift<direction = "{way}">(byte, n)',
                  {"n": np.array([0, 1, 7], np.uint8)}) for way in ("LEFT", "RIGHT")]
    + [("uint8[2,3] byte, uint8[3] index", 'y = BitShift<direction = "RIGHT">(byte, index)', {})],
    "Mod": [("int64[5] a", f"y = Mod{how}(a, c)", {"c": ints(2, -2, 3, -3, 2)})
            for how in ("", "<fmod = 1>")]
    + [("float[2,3] a, float[3] positive", "y = Mod<fmod = 1>(a, positive)", {}),
       ("uint8[2,3] byte", "y = Mod(byte, c)", {"c": np.array([3, 7, 250], np.uint8)})],
}  # fmt: skip
