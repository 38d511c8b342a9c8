"""Where are the tokens that a method keeps? Against an even spread over the picture (T12).

A method that keeps what it keeps for its place, not for its content, leans: attention of the last
word is known to favour the end of the raster, for it is near.
"""

from __future__ import annotations

import numpy as np

from edgevlm.compiler.generate import ImageTokens, Trace
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import Dataset

__all__ = ["position_bias"]

ASKED = 128  # questions, evenly spread over the split


def position_bias(answerer: Answerer, dataset: Dataset) -> dict[str, float | int]:
    """Kolmogorov-Smirnov distance of kept places, in raster order, from an even spread; 0 to 1.

    Behind the last site that keeps tokens. `late` is the share of kept tokens in the second half.
    """
    total = answerer.contract.image_tokens
    counts, n = np.zeros(total), 0
    for row in dataset.rows[:: max(1, len(dataset.rows) // ASKED)][:ASKED]:
        trace = Trace()
        image = answerer.look(row.rgb)
        tuple(answerer.stream(image, row.question, max_new=1, trace=trace))
        counts[_kept(answerer, image, trace)] += 1
        n += 1
    seen = np.cumsum(counts) / counts.sum()
    even = np.arange(1, total + 1) / total
    return {
        "ks": float(np.abs(seen - even).max()),
        "late": float(counts[total // 2 :].sum() / counts.sum()),
        "n": n,
    }


def _kept(answerer: Answerer, image: ImageTokens, trace: Trace) -> np.ndarray:
    """Places in the grid; a site whose tokens come back says nothing to the next."""
    left = kept = image.index
    for site in sorted(answerer.contract.sites, key=lambda s: s.layer):
        if not site.tokens:
            continue
        kept = left[trace.choices[f"prefill/image_index_{site.layer}"]]
        left = left if site.returns else kept
    return kept
