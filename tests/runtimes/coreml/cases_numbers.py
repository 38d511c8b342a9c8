"""Cases of ops that take numbers one by one, of one tensor or of two."""

from __future__ import annotations

import math

import numpy as np
from coreml_case_forms import Row, Rows, ints, normal, uniform

__all__ = ["CASES"]

erf = np.vectorize(math.erf)
sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
FLOATS = {"x": normal(2, 3, 4), "y": normal(3, 1, seed=1)}
WHOLE = {"x": ints(-9, 10, 2, 3, 4), "y": ints(1, 4, 4, seed=1) * np.int32([-1, 1, -1, 1])}


def two(op: str, function, *feeds: dict[str, np.ndarray]) -> Rows:
    return [
        Row(feed, lambda mb, t, x, y: getattr(mb, op)(x=x, y=y), lambda x, y: function(x, y))
        for feed in feeds or (FLOATS, WHOLE)
    ]


def logical(op: str, function) -> Rows:
    def build(mb, t, x, y):
        return getattr(mb, op)(x=mb.cast(x=x, dtype="bool"), y=mb.cast(x=y, dtype="bool"))

    feeds = {"x": ints(0, 2, 3, 4), "y": ints(0, 2, 3, 4, seed=1)}
    return [Row(feeds, build, lambda x, y: function(x != 0, y != 0))]


def one(op: str, function, x: np.ndarray | None = None, **options: float) -> Rows:
    """Options are numbers, of the type of x."""
    x = normal(2, 3, 4) if x is None else x

    def build(mb, t, x):
        return getattr(mb, op)(x=x, **{name: t(number) for name, number in options.items()})

    return [Row({"x": x}, build, lambda x: function(x, **options))]


def channels(op: str, function, **rows: np.ndarray) -> Rows:
    """Options that have a number a channel."""

    def build(mb, t, x):
        return getattr(mb, op)(x=x, **{name: t(row) for name, row in rows.items()})

    broad = {name: row[:, None, None] for name, row in rows.items()}
    return [Row({"x": normal(2, 3, 4, 5)}, build, lambda x: function(x, **broad))]


def casts() -> Rows:
    floats, whole = uniform(-9, 9, 3, 4), ints(-3, 3, 3, 4)

    def to(dtype: str):
        return lambda mb, t, x: mb.cast(x=x, dtype=dtype)

    return [
        Row({"x": floats}, to("int32"), np.trunc),
        Row({"x": floats}, to("fp16"), lambda x: x.astype(np.float16)),
        Row({"x": floats}, to("fp32"), lambda x: x),
        Row({"x": whole}, to("bool"), lambda x: x != 0),
        Row({"x": whole}, to("fp16"), lambda x: x),
        Row({"x": whole}, to("int8"), lambda x: x),
        Row({"x": whole + 3}, to("uint8"), lambda x: x),
        Row({"x": whole + 3}, to("uint16"), lambda x: x),
        Row({"x": np.array([0.0, -0.4, 2.0])}, to("bool"), lambda x: x != 0),
    ]


def tanh_gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


GELU = {
    "EXACT": lambda x: x / 2 * (1 + erf(x / np.sqrt(2))),
    "TANH_APPROXIMATION": tanh_gelu,
    "SIGMOID_APPROXIMATION": lambda x: x * sigmoid(1.702 * x),
}


def gelu(mode: str) -> Row:
    return Row({"x": normal(4, 5)}, lambda mb, t, x: mb.gelu(x=x, mode=mode), GELU[mode])


POSITIVE = uniform(0.1, 4, 2, 3)
INNER = uniform(-0.9, 0.9, 2, 3)

CASES: dict[str, Rows] = {
    "add": two("add", np.add),
    "sub": two("sub", np.subtract),
    "mul": two("mul", np.multiply),
    "real_div": two("real_div", np.divide, FLOATS),
    "floor_div": two("floor_div", np.floor_divide),
    "mod": two("mod", np.mod, {"x": uniform(-9, 9, 2, 3), "y": uniform(1, 4, 3, seed=1)}, WHOLE),
    "pow": two("pow", np.power, {"x": POSITIVE, "y": normal(3, seed=1)},
               {"x": ints(-3, 4, 5), "y": ints(0, 4, 5, seed=1)}),
    "maximum": two("maximum", np.maximum),
    "minimum": two("minimum", np.minimum),
    **{op: two(op, function) for op, function in {
        "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
        "less_equal": np.less_equal, "greater": np.greater,
        "greater_equal": np.greater_equal}.items()},
    "logical_and": logical("logical_and", np.logical_and),
    "logical_or": logical("logical_or", np.logical_or),
    "logical_xor": logical("logical_xor", np.logical_xor),
    "logical_not": [Row({"x": ints(0, 2, 3, 4)},
                        lambda mb, t, x: mb.logical_not(x=mb.cast(x=x, dtype="bool")),
                        lambda x: x == 0)],
    "select": [Row({"c": ints(0, 2, 3, 4), "a": normal(3, 4), "b": normal(3, 4, seed=1)},
                   lambda mb, t, c, a, b: mb.select(cond=mb.cast(x=c, dtype="bool"), a=a, b=b),
                   lambda c, a, b: np.where(c != 0, a, b))],
    "abs": one("abs", np.abs) + one("abs", np.abs, ints(-5, 5, 4)),
    "acos": one("acos", np.arccos, INNER),
    "asin": one("asin", np.arcsin, INNER),
    "atan": one("atan", np.arctan),
    "atanh": one("atanh", np.arctanh, INNER),
    "cast": casts(),
    "ceil": one("ceil", np.ceil),
    "clamped_relu": one("clamped_relu",
                        lambda x, alpha, beta: np.minimum(beta, np.where(x >= 0, x, alpha * x)),
                        alpha=0.25, beta=0.5),
    "clip": one("clip", lambda x, alpha, beta: np.clip(x, alpha, beta), alpha=-0.5, beta=0.75),
    "cos": one("cos", np.cos),
    "cosh": one("cosh", np.cosh),
    "elu": one("elu", lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(x) - 1)), alpha=1.5),
    "erf": one("erf", erf),
    "exp": one("exp", np.exp),
    "exp2": one("exp2", np.exp2),
    "floor": one("floor", np.floor),
    "gelu": [gelu(mode) for mode in GELU],
    "identity": one("identity", lambda x: x),
    "inverse": one("inverse", lambda x, epsilon=1e-4: 1 / (x + epsilon), POSITIVE)
    + one("inverse", lambda x, epsilon: 1 / (x + epsilon), POSITIVE, epsilon=0.125),
    "leaky_relu": one("leaky_relu", lambda x, alpha: np.where(x >= 0, x, alpha * x), alpha=0.25),
    "linear_activation": one("linear_activation", lambda x, alpha, beta: alpha * x + beta,
                             alpha=0.5, beta=0.25),
    "log": one("log", np.log, POSITIVE)
    + one("log", lambda x, epsilon: np.log(x + epsilon), POSITIVE, epsilon=0.125),
    "prelu": channels("prelu", lambda x, alpha: np.where(x > 0, x, alpha * x),
                      alpha=np.array([0.25, 0.5, -1.0])),
    "relu": one("relu", lambda x: np.maximum(x, 0)),
    "relu6": one("relu6", lambda x: np.clip(x, 0, 6), uniform(-9, 9, 3, 4)),
    "round": one("round", np.round, np.array([0.5, 1.5, -0.5, -1.5, 2.25])),
    "rsqrt": one("rsqrt", lambda x: 1 / np.sqrt(x), POSITIVE)
    + one("rsqrt", lambda x, epsilon: 1 / np.sqrt(x + epsilon), POSITIVE, epsilon=0.125),
    "scaled_tanh": one("scaled_tanh", lambda x, alpha, beta: alpha * np.tanh(beta * x),
                       alpha=1.5, beta=0.5),
    "sigmoid": one("sigmoid", sigmoid),
    "sigmoid_hard": one("sigmoid_hard", lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
                        alpha=0.25, beta=0.5),
    "sign": one("sign", np.sign) + one("sign", np.sign, ints(-2, 3, 5)),
    "silu": one("silu", lambda x: x * sigmoid(x)),
    "sin": one("sin", np.sin),
    "sinh": one("sinh", np.sinh),
    "softplus": one("softplus", lambda x: np.log1p(np.exp(x))),
    "softplus_parametric": channels(
        "softplus_parametric", lambda x, alpha, beta: alpha * np.log1p(np.exp(beta * x)),
        alpha=np.array([0.5, 1.0, 2.0]), beta=np.array([1.0, -0.5, 0.25])),
    "softsign": one("softsign", lambda x: x / (1 + np.abs(x))),
    "sqrt": one("sqrt", np.sqrt, POSITIVE),
    "square": one("square", np.square) + one("square", np.square, ints(-5, 5, 4)),
    "tan": one("tan", np.tan, INNER),
    "tanh": one("tanh", np.tanh),
    "threshold": one("threshold", lambda x, alpha: np.maximum(x, alpha), alpha=0.25),
    "thresholded_relu": one("thresholded_relu", lambda x, alpha: np.where(x >= alpha, x, 0),
                            alpha=0.25),
}  # fmt: skip
