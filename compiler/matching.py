"""Outputs of two versions of a part, compared where a selector may have chosen otherwise.

Two tokens may be all but equal, and rounding then decides which one is kept. That is no error of
what is computed, so choices are told apart as an overlap, and what lies behind a choice that
differs is compared with itself only: row by row, by the places of tokens in the grid.

    vision, connector   one choice, in front of all they give
    prefill             a choice a site (`image_index_<layer>`), in front of the caches behind it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.drift import Drift, measure, measure_codes

__all__ = ["Compared", "choices_of", "compare_outputs", "overlap_of"]

INDEX = "image_index"
Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """One output of one probe. `behind`: a choice that differs may have changed it."""

    drift: Drift
    behind: bool


def choices_of(outputs: Outputs) -> dict[str, np.ndarray]:
    """The outputs that say which tokens were kept."""
    return {name: value for name, value in outputs.items() if name.startswith(INDEX)}


def overlap_of(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of the kept tokens that both sides chose (Jaccard), 0..1."""
    return len(np.intersect1d(ours, theirs)) / len(np.union1d(ours, theirs))


def compare_outputs(
    want: Outputs, got: Outputs, contract: Contract | None = None, start: int = 0
) -> tuple[list[Compared], float | None]:
    """Every output but the choices, and the smallest overlap of those; None where there is none.

    start: row of the first image token, for the caches of prefill.
    """
    chosen = choices_of(want)
    differ = {n for n in chosen if not np.array_equal(want[n], got[n])}
    found = []
    for name in want:
        if name in chosen:
            continue
        a, b = want[name], got[name]
        behind = any(_stands_behind(name, choice) for choice in differ)
        if behind:
            a, b = _matched(name, (a, want), (b, got), contract, start)
        compare = measure_codes if a.dtype == np.int8 else measure
        found.append(Compared(compare(a, b, name), behind))
    overlaps = [overlap_of(want[n], got[n]) for n in chosen]
    return found, min(overlaps, default=None)


def _stands_behind(output: str, choice: str) -> bool:
    """Only prefill has outputs that stand in front of a choice: the caches of earlier layers."""
    layer = choice.removeprefix(f"{INDEX}_")
    kind, _, own = output.partition("_")
    return not (kind in ("key", "value") and layer.isdigit() and int(own) < int(layer))


def _matched(
    name: str,
    want: tuple[np.ndarray, Outputs],
    got: tuple[np.ndarray, Outputs],
    contract: Contract | None,
    start: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of both that are of the same tokens; all of what has no rows of tokens."""
    axis = 1 if name in ("image_features", "image_embeds") else 2
    if axis == 2 and not name.startswith(("key_", "value_")):
        return want[0], got[0]
    rows = []
    for value, outputs in (want, got):
        if axis == 1:
            places = outputs[INDEX]
            lead = value.shape[1] - len(places)  # a class token
        else:
            places, lead = _places(contract, outputs, int(name.rpartition("_")[2])), start
        text = np.arange(value.shape[axis] - lead - len(places))
        # tokens by their place; what stands in front by negative numbers, what behind from 10**9 on
        rows.append(np.concatenate([np.arange(-lead, 0), places, 10**9 + text]))
    _, mine, theirs = np.intersect1d(*rows, return_indices=True)
    if axis == 1:  # a class token alone is not agreement
        shared = np.intersect1d(want[1][INDEX], got[1][INDEX])
        keep = slice(None) if len(shared) else slice(0)
        mine, theirs = mine[keep], theirs[keep]
    return want[0].take(mine, axis), got[0].take(theirs, axis)


def _places(contract: Contract, outputs: Outputs, layer: int) -> np.ndarray:
    """Which of the image tokens of the first layer a layer's cache holds."""
    places = np.arange(contract.kept_image_tokens)
    for site in contract.sites:
        if site.layer == layer or (site.layer < layer and not site.returns):
            index = outputs.get(f"{INDEX}_{site.layer}", np.arange(0))
            places = places[index]
    return places
