"""Tokens that say the same whatever the picture: their directions, found when compiling.

    sink   much the same token (cosine over .99) is in most pictures
    dead   of the others, the one largest cluster (cosine over .9) that pictures share

A cluster is a token and all that are nearer to it than the threshold, the largest first; its
prototype is the direction of its mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Prototype", "find_prototypes"]

MOST_ROWS = 4096  # tokens that are compared with each other; more are thinned out evenly
SINK_PICTURES = 0.5  # share of the pictures that a sink is found in


@dataclass(frozen=True)
class Prototype:
    direction: np.ndarray  # float32 [D], of length 1
    kind: str  # "sink" or "dead"
    tokens: int  # in the cluster
    pictures: int  # that have a token in it


def find_prototypes(
    pictures: np.ndarray, most: int, sink: float = 0.99, dead: float = 0.9
) -> list[Prototype]:
    """At most `most` sinks and a dead one behind them, of tokens float [P,N,D] of P pictures."""
    count, each, width = pictures.shape
    rows = pictures.reshape(-1, width).astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    thin = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.int64))
    rows = rows[thin].astype(np.float32)
    of_picture = np.equal(thin[:, None] // each, np.arange(count)).astype(np.float32)
    alike, free = rows @ rows.T, np.ones(len(rows), bool)
    found: list[Prototype] = []
    most_pictures = max(2, SINK_PICTURES * count)
    for kind, threshold, few, least in (
        ("sink", sink, most, most_pictures),
        ("dead", dead, most + 1, 2),
    ):
        near = alike > threshold
        while len(found) < few:
            held = (near & free).astype(np.float32) @ of_picture  # [rows,P] tokens in the cluster
            size, seen = held.sum(1) * free, (held > 0).sum(1)
            size[seen < least] = 0
            leader = int(np.argmax(size))
            if not size[leader]:
                break
            member = near[leader] & free
            mean = rows[member].astype(np.float64).mean(0)
            direction = (mean / np.linalg.norm(mean)).astype(np.float32)
            found.append(Prototype(direction, kind, int(size[leader]), int(seen[leader])))
            free &= ~member
            if kind == "dead":
                break
    return found
