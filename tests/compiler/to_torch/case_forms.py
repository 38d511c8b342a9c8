"""How the cases of ops are written: [(inputs, nodes, constants), ...] for each op.

Outputs are y, and z, w where nodes name them. Inputs are drawn: floats normal, bools by a coin,
integers in -3 to 3, or as DRAWN says by name.
"""

from __future__ import annotations

import numpy as np

__all__ = ["DRAWN", "F", "Rows", "i64", "ints", "normal", "one", "outputs_of", "quantised",
           "reduction", "two"]  # fmt: skip

#: input name -> [low, high) of what is drawn for it
DRAWN = {
    "positive": (0.1, 4.0),
    "above": (1.1, 4.0),
    "unit": (-0.9, 0.9),
    "index": (0, 3),
    "back": (-3, 3),
    "count": (1, 9),
    "byte": (0, 255),
}

F = np.float32
i64 = np.int64
Rows = list[tuple[str, str, dict[str, np.ndarray]]]


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, i64)


def normal(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(F)


def outputs_of(nodes: str) -> list[str]:
    """y, z, w as far as some node makes them."""
    left = " ".join(node.partition("=")[0] for node in nodes.split(";"))
    return [name for name in "yzw" if name in left.replace(",", " ").split()]


def one(op: str, kind: str = "float[2,3]", attributes: str = "", name: str = "x") -> Rows:
    return [(f"{kind} {name}", f"y = {op}{attributes}({name})", {})]


def two(op: str, kinds: str = "float float int64") -> Rows:
    """Broadcasting both ways, and a constant."""
    rows = []
    for kind in dict.fromkeys(kinds.split()):
        constant = np.array([2, 3, 1], F if kind == "float" else i64 if kind == "int64" else bool)
        rows += [
            (f"{kind}[2,1,3] a, {kind}[4,1] b", f"y = {op}(a, b)", {}),
            (f"{kind}[2,3] a", f"y = {op}(a, c)", {"c": constant}),
        ]
    return rows


def reduction(op: str, name: str = "x") -> Rows:
    x = f"float[2,3,4] {name}"
    return [
        (x, f"y = {op}({name}, axes)", {"axes": ints(-1)}),
        (x, f"y = {op}<keepdims = 0>({name}, axes)", {"axes": ints(0, 2)}),
        (x, f"y = {op}({name})", {}),
        (x, f"y = {op}<keepdims = 0>({name})", {}),
    ]


def quantised(size: int, dtype: type = np.int8) -> np.ndarray:
    low = np.iinfo(dtype).min
    return np.random.default_rng(1).integers(low, low + 256, size).astype(dtype)
