"""Look at values inside a part while calibration inputs go through it, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.executor import Feeds, open_session
from edgevlm.compiler.groups import groups_within

__all__ = ["watch"]

WATCHED_BYTES = 256 << 20  # of one input's activations that are held at once


def watch(
    part: ir.Model,
    values: Sequence[ir.Value],
    feeds: Sequence[Feeds],
    see: Callable[[ir.Value, np.ndarray, int], None],
) -> None:
    """Calls `see` with each value, what it was in a run, and which; each run is let go then."""
    for batch in groups_within(WATCHED_BYTES, values, _bytes):
        inner = [v for v in batch if not v.is_graph_input()]
        session = open_session(part, outputs=tuple(inner)) if inner else None
        for i, feed in enumerate(feeds):
            outs = session.run([str(v.name) for v in inner], dict(feed)) if session else []
            for value, array in zip(inner, outs, strict=True):
                see(value, array, i)
            for value in batch:
                if value.is_graph_input():
                    see(value, feed[str(value.name)], i)


def _bytes(value: ir.Value) -> int:
    """Of float32."""
    return 4 * int(np.prod([int(d) for d in value.shape]))
