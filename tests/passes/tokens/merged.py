"""Attention with merged rows in float64, loop by loop: shares no code with the compiler.

sides(x, start, count, **side)            per head: the groups of rows that stand for each other
attend(q, k, v, queries, keys, ...)       [H,L,d]: what every row gets
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["attend", "groups_of", "sides"]


def groups_of(x, start, count, block=128, share=0.0, targets=0.25, back=0.0):
    """x [L,d] of one head -> list of lists of rows; the first of each is its target."""
    blocks = math.ceil(count / block)
    size = count // blocks
    gone = min(math.floor(share * size + 0.5), size - 1)
    if gone == 0:
        return [[row] for row in range(len(x))]
    spread = max(1, min(math.floor(targets * size + 0.5), size - gone))
    groups = {row: [row] for row in range(len(x))}
    went = {}
    for b in range(blocks):
        first = start + b * size
        at = [first + int((i + 0.5) * size / spread) for i in range(spread)]
        likeness = []
        for row in range(first, first + size):
            if row not in at:
                cosines = [x[row] @ x[t] / np.linalg.norm(x[t]) for t in at]
                best = int(np.argmax(cosines))
                likeness.append((cosines[best] / np.linalg.norm(x[row]), row, at[best]))
        alone = len(likeness) - gone
        for _, row, target in sorted(likeness)[alone:]:
            groups[target].append(row)
            went[row] = target
            del groups[row]
    far = []
    for row, target in went.items():
        far.append((-np.linalg.norm(x[row] - x[groups[target]].mean(0)), row, target))
    for _, row, target in sorted(far)[: math.floor(back * count + 0.5)]:
        groups[target].remove(row)
        groups[row] = [row]
    return list(groups.values())


def sides(x, start, count, **side):
    return [groups_of(head, start, count, **side) for head in x]


def attend(q, k, v, queries, keys, sizes=None, proportional=True, scale=None):
    """q [H,L,d], k and v [G,L,d], H = G x group; queries, keys: groups by head of q and of k."""
    weights = np.ones(k.shape[1]) if sizes is None else sizes
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = np.zeros((*q.shape[:2], v.shape[-1]))
    for h, groups in enumerate(queries):
        g = h // (len(q) // len(k))
        mean = lambda x, rows: np.average(x[rows], axis=0, weights=weights[rows])  # noqa: E731
        short_k = np.stack([mean(k[g], rows) for rows in keys[g]])
        short_v = np.stack([mean(v[g], rows) for rows in keys[g]])
        total = np.array([weights[rows].sum() for rows in keys[g]])
        for rows in groups:
            logits = short_k @ q[h][rows].mean(0) * scale
            logits = logits + np.log(total) if proportional else logits
            share = np.exp(logits - logits.max())
            out[h, rows] = share / share.sum() @ short_v
    return out
