"""Cases of ops that sum: reductions, normalisations, products, attention."""

from __future__ import annotations

import numpy as np
from coreml_case_forms import Row, Rows, ints, normal, uniform

__all__ = ["CASES"]

X = {"x": normal(2, 3, 4)}
EPSILON = 2.0**-10  # exact in both types


def folded(op: str, function, x: np.ndarray | None = None) -> Rows:
    """function(x, axis=, keepdims=), in three forms."""
    feeds = X if x is None else {"x": x}

    def row(axes, keep) -> Row:
        options = {} if axes is None else {"axes": list(axes)}
        return Row(
            feeds,
            lambda mb, t, x: getattr(mb, op)(x=x, keep_dims=keep, **options),
            lambda x: function(x, axis=axes, keepdims=keep),
        )

    return [row((1,), False), row((0, -1), True), row(None, False)]


def whole(op: str, function) -> Rows:
    return folded(op, function, ints(-3, 4, 2, 3, 4))


def log_sum_exp(x, axis, keepdims):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def summed(exclusive: bool, reverse: bool, x: np.ndarray, axis: int) -> Row:
    def want(x):
        x = np.flip(x, axis) if reverse else x
        y = np.cumsum(x, axis) - (x if exclusive else 0)
        return np.flip(y, axis) if reverse else y

    def build(mb, t, x):
        return mb.cumsum(x=x, axis=axis, exclusive=exclusive, reverse=reverse)

    return Row({"x": x}, build, want)


def normalised(x, axes, epsilon=1e-5):
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon)


def layer_norm(axes: list[int], shape: tuple[int, ...], epsilon: float = EPSILON) -> Row:
    gain, shift = uniform(0.5, 2, *shape), normal(*shape, seed=4)
    broad = [n if i in [a % 3 for a in axes] else 1 for i, n in enumerate((2, 3, 4))]

    def build(mb, t, x):
        return mb.layer_norm(x=x, axes=axes, gamma=t(gain), beta=t(shift), epsilon=t(epsilon))

    def want(x, gain, shift):
        return normalised(x, tuple(axes), epsilon) * gain.reshape(broad) + shift.reshape(broad)

    return Row(X, build, want, more={"g": gain, "b": shift})


def batch_norm() -> Rows:
    mean, variance, gain, shift = normal(3), uniform(0.5, 2, 3), normal(3, seed=2), normal(3)

    def build(mb, t, x):
        return mb.batch_norm(x=x, mean=t(mean), variance=t(variance), gamma=t(gain),
                             beta=t(shift), epsilon=t(EPSILON))  # fmt: skip

    def want(x, *rows):
        m, v, g, s = (row[:, None, None] for row in rows)
        return (x - m) / np.sqrt(v + EPSILON) * g + s

    more = {"m": mean, "v": variance, "g": gain, "s": shift}
    return [Row({"x": normal(2, 3, 4, 5)}, build, want, more=more)]


def instance_norm() -> Rows:
    gain, shift = normal(3, seed=2), normal(3)

    def build(mb, t, x):
        return mb.instance_norm(x=x, gamma=t(gain), beta=t(shift), epsilon=t(EPSILON))

    def want(x, gain, shift):
        return normalised(x, (2, 3), EPSILON) * gain[:, None, None] + shift[:, None, None]

    more = {"g": gain, "s": shift}
    return [Row({"x": normal(2, 3, 4, 5)}, build, want, more=more)]


def linear(bias: bool) -> Row:
    weight, shift = normal(5, 4), normal(5, seed=1)

    def build(mb, t, x):
        return mb.linear(x=x, weight=t(weight), **({"bias": t(shift)} if bias else {}))

    # what is multiplied is stored in the type that is tried: the reference rounds it as well
    return Row(X, build, lambda x, w, b: x @ w.T + (b if bias else 0),
               more={"w": weight, "b": shift})  # fmt: skip


def product(x: tuple, y: tuple, turn_x: bool = False, turn_y: bool = False, make=normal) -> Row:
    def build(mb, t, x, y):
        return mb.matmul(x=x, y=y, transpose_x=turn_x, transpose_y=turn_y)

    def want(x, y):
        return np.matmul(x.swapaxes(-1, -2) if turn_x else x, y.swapaxes(-1, -2) if turn_y else y)

    if make is ints:
        return Row({"x": ints(-3, 4, *x), "y": ints(-3, 4, *y, seed=1)}, build, want)
    return Row({"x": normal(*x), "y": normal(*y, seed=1)}, build, want)


def einsum(equation: str, x: tuple, y: tuple) -> Row:
    def build(mb, t, x, y):
        return mb.einsum(values=(x, y), equation=equation)

    def want(x, y):
        sizes = [max(x.shape[-2], y.shape[-2])]
        x = np.broadcast_to(x, (*x.shape[:-2], *sizes, x.shape[-1]))
        return np.einsum(equation, x, y)

    return Row({"x": normal(*x), "y": normal(*y, seed=1)}, build, want)


def attention(mask: str) -> Row:
    feeds = {"q": normal(1, 2, 3, 4), "k": normal(1, 2, 5, 4, seed=1),
             "v": normal(1, 2, 5, 6, seed=2)}  # fmt: skip
    if mask == "bool":
        feeds["m"] = np.tril(np.ones((3, 5)), 1).astype(np.int32)
    if mask == "float":
        feeds["m"] = normal(3, 5, seed=3)

    def build(mb, t, q, k, v, m=None):
        m = mb.cast(x=m, dtype="bool") if mask == "bool" else m
        more = {} if m is None else {"attn_mask": m}
        return mb.scaled_dot_product_attention(query=q, key=k, value=v, **more)

    def want(q, k, v, m=0.0):
        if mask == "bool":
            m = np.where(m != 0, 0, -np.inf)
        return softmax(q @ k.swapaxes(-1, -2) / 2 + m, -1) @ v

    return Row(feeds, build, want)


CASES: dict[str, Rows] = {
    "reduce_sum": folded("reduce_sum", np.sum) + whole("reduce_sum", np.sum),
    "reduce_mean": folded("reduce_mean", np.mean),
    "reduce_max": folded("reduce_max", np.max) + whole("reduce_max", np.max),
    "reduce_min": folded("reduce_min", np.min) + whole("reduce_min", np.min),
    "reduce_prod": folded("reduce_prod", np.prod) + whole("reduce_prod", np.prod),
    "reduce_l1_norm": folded("reduce_l1_norm", lambda x, **how: np.sum(np.abs(x), **how)),
    "reduce_l2_norm": folded("reduce_l2_norm", lambda x, **how: np.sqrt(np.sum(x * x, **how))),
    "reduce_log_sum": folded("reduce_log_sum", lambda x, **how: np.log(np.sum(x, **how)),
                             uniform(0.1, 2, 2, 3, 4)),
    "reduce_log_sum_exp": folded("reduce_log_sum_exp", log_sum_exp),
    "reduce_sum_square": folded("reduce_sum_square", lambda x, **how: np.sum(x * x, **how)),
    "softmax": [Row(X, lambda mb, t, x: mb.softmax(x=x), lambda x: softmax(x, -1)),
                Row(X, lambda mb, t, x: mb.softmax(x=x, axis=1), lambda x: softmax(x, 1))],
    "cumsum": [summed(e, r, normal(3, 4), a) for e in (False, True) for r in (False, True)
               for a in (0, -1)] + [summed(True, True, ints(-5, 6, 7), 0)],
    "layer_norm": [layer_norm([-1], (4,)), layer_norm([1, 2], (3, 4)), layer_norm([0, -1], (2, 4)),
                   Row(X, lambda mb, t, x: mb.layer_norm(x=x, axes=[-1], epsilon=t(EPSILON)),
                       lambda x: normalised(x, (2,), EPSILON))],
    "batch_norm": batch_norm(),
    "instance_norm": instance_norm(),
    "l2_norm": [Row({"x": normal(2, 3, 4, 5)},
                    lambda mb, t, x: mb.l2_norm(x=x, epsilon=t(EPSILON)),
                    lambda x: x / np.sqrt((x * x).sum((1, 2, 3), keepdims=True) + EPSILON))],
    "linear": [linear(True), linear(False)],
    "matmul": [product((2, 3, 4), (4, 5)), product((2, 3, 4), (2, 5, 4), turn_y=True),
               product((2, 1, 4, 3), (5, 4, 2), turn_x=True), product((4,), (4, 5)),
               product((3, 4), (4, 2), make=ints)],
    "einsum": [einsum("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
               einsum("bchq,bqhk->bchk", (2, 3, 1, 5), (2, 5, 4, 6)),
               einsum("chw,whr->chr", (3, 4, 5), (5, 4, 2))],
    "scaled_dot_product_attention": [attention(mask) for mask in ("none", "bool", "float")],
}  # fmt: skip
