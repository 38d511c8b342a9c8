"""Attention written out, in every way that exporters have, and what it amounts to."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["KEYS", "NUMBERS", "SCALES", "by_the_book", "feeds", "numbers", "sized", "text"]

B, H, N, M, D, W = 1, 3, 4, 5, 8, 6  # batch, heads, rows, keys, width, width of v
#: where k comes from: its axes as letters of b h m d, and the lines that make `kt` [b,h,d,m] of k
KEYS = {
    "as it is": ("bhdm", "kt = Identity(k)"),
    "one step": ("bhmd", "kt = Transpose<perm = [0, 1, 3, 2]>(k)"),
    "with its heads": ("bmhd", "kt = Transpose<perm = [0, 2, 3, 1]>(k)"),
    "two steps": (
        "bmhd",
        "kh = Transpose<perm = [0, 2, 1, 3]>(k) kt = Transpose<perm = [0, 1, 3, 2]>(kh)",
    ),
}
#: where the scale stands: lines with it, and what it amounts to
SCALES = {
    "none": ("", 1.0),
    "q": ("qs = Mul(q, s)", 0.3),
    "q, divided": ("qs = Div(q, s)", 1 / 0.3),
    "k": ("ks = Mul(s, kt)", 0.3),
    "both": ("qs = Mul(q, s) ks = Mul(kt, s)", 0.09),
    "behind": ("ls = Mul(s, p)", 0.3),
    "behind, divided": ("ls = Div(p, s)", 1 / 0.3),
    "everywhere": ("qs = Mul(q, s) ks = Div(kt, t) ls = Mul(p, u)", 0.3 / 2 * 0.7),
}
NUMBERS = {"s": 0.3, "t": 2.0, "u": 0.7}


def sized(letters: str, rank: int, **sizes: int) -> tuple[int, ...]:
    known = {"b": B, "h": H, "n": N, "m": M, "d": D, "w": W, **sizes}
    return tuple(known[x] for x in letters if rank == 4 or x != "b")


def _one_less(axes: re.Match) -> str:
    return f"[{', '.join(str(int(axis) - 1) for axis in axes[1].split(', '))}]"


def text(keys="one step", scale="none", masks="", rank=4, inputs="", more="", spy="", **sizes):
    """The graph as it is written; `masks` makes `lm` of `lo`."""
    letters, turn = KEYS[keys]
    if rank == 3:
        turn = re.sub(r"\[0, (.*?)]", _one_less, turn)
    lines = [turn, SCALES[scale][0]]
    has = [name for name in ("qs", "ks", "ls") if f"{name} = " in SCALES[scale][0]]
    q, k = ("qs" if "qs" in has else "q"), ("ks" if "ks" in has else "kt")
    product = f"p = MatMul({q}, {k})"
    if "ls" in has:  # it reads the product, so it comes behind it
        head, at, tail = SCALES[scale][0].rpartition("ls = ")
        lines = [turn, head, product, at + tail]
    else:
        lines.append(product)
    logits = "ls" if "ls" in has else "p"
    if masks:
        lines.append(masks.replace("lo", logits))
        logits = "lm"
    lines.append(f"[soft] a = Softmax<axis = -1>({logits}) {spy} o = MatMul(a, v) y = Neg(o)")
    port = {
        name: ",".join(map(str, sized(x, rank, **sizes)))
        for name, x in {"q": "bhnd", "k": letters, "v": "bhmw", "y": "bhnw"}.items()
    }
    heads = ", ".join(f"float[{port[n]}] {n}" for n in "qkv")
    return f"({heads}{inputs}) => (float[{port['y']}] y{more}) {{ {' '.join(lines)} }}"


def feeds(keys="one step", rank=4, seed=0, **sizes):
    rng = np.random.default_rng(seed)
    axes = {"q": "bhnd", "k": KEYS[keys][0], "v": "bhmw"}
    return {n: rng.normal(size=sized(x, rank, **sizes)).astype(np.float32) for n, x in axes.items()}


def numbers(words: str) -> dict[str, np.ndarray]:
    return {n: np.float32(v) for n, v in NUMBERS.items() if re.search(rf"[(, ]{n}[),]", words)}


def by_the_book(fed, keys, scale, masks=()):
    """-softmax(scale q k^T + masks) v in float64."""
    q, k, v = (fed[n].astype(np.float64) for n in "qkv")
    letters = KEYS[keys][0] if q.ndim == 4 else KEYS[keys][0].replace("b", "")
    k = np.einsum(f"{letters}->{'bhmd' if q.ndim == 4 else 'hmd'}", k)
    logits = scale * (q @ k.swapaxes(-1, -2))
    for mask in masks:
        logits = logits + mask
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return -(e / e.sum(-1, keepdims=True)) @ v
