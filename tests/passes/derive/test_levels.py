"""Shapes to be timed: those that narrow-encoder makes, and a grid of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.cost import count
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.compiler.structure import structure_digest
from edgevlm.compiler.validate import validate
from edgevlm.passes import make_passes
from edgevlm.passes.derive.levels import head_levels, spent, unit_levels, with_units
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.derive.narrow_units import TooWide
from edgevlm.passes.derive.narrowing import FIRST
from edgevlm.passes.pipelines import Flags, compose


@pytest.fixture(scope="module")
def clean(tiny_model):
    return apply_unchecked(tiny_model, make_passes(compose("host-cpu", "ort", Flags())))


@pytest.fixture(scope="module")
def shape(clean):
    return clean.parts["vision"], clean.contract.signature("vision")


@pytest.fixture(scope="module")
def grid(shape):
    part, signature = shape
    return [list(unit_levels(level, signature, 8)) for level in head_levels(part, signature, 8)]


def test_it_is_a_grid_that_falls_from_the_whole_part(grid, shape):
    part, signature = shape
    assert grid[0][0] is part and len(grid) > 1 and len(grid[0]) > 3
    pairs = np.array([[spent(each, signature) for each in row] for row in grid])
    heads, units = pairs[..., 0], pairs[..., 1]
    assert (heads == heads[:, :1]).all() and (units == units[:1]).all()
    assert (np.diff(heads[:, 0]) < 0).all() and (np.diff(units[0]) < 0).all()
    assert heads[0, 0] + units[0, 0] == count(part).macs


def test_all_of_it_runs_and_the_model_is_as_it_was(grid, clean, tiny_probes, ort):
    before = structure_digest(clean.parts["vision"])
    for part in (grid[0][-1], grid[-1][0], grid[-1][-1]):
        validate(clean.with_parts(vision=part))
        (out,) = ort(part, pixel_values=tiny_probes[0].pixel_values).values()
        assert np.isfinite(out).all()
    assert structure_digest(clean.parts["vision"]) == before
    assert len({structure_digest(part) for row in grid for part in row}) == sum(map(len, grid))


@pytest.mark.parametrize(("energy", "share"), [(1.0, 0.8), (0.98, 0.6), (0.9, 0.5)])
def test_a_shape_is_that_of_the_pass(clean, tiny_probes, energy, share):
    signature, whole = clean.contract.signature("vision"), count(clean.parts["vision"]).macs
    step = NarrowEncoder(energy=energy)
    step.calibration = observe(clean, tiny_probes[:4])
    settled = step.settle(clean, lambda part: int(share * whole))
    assert settled.options == {"macs": int(share * whole), "energy": energy}
    made = NarrowEncoder(**settled.options)
    made.calibration = step.calibration
    part = made(clean).model.parts["vision"]
    shaped = with_units(settled.part, signature, settled.macs, 8)
    assert structure_digest(shaped) == structure_digest(part)
    assert sum(spent(part, signature)) == count(part).macs <= share * whole


def test_fewer_than_there_can_be(shape, grid):
    part, signature = shape
    least = count(grid[0][-1]).macs
    assert count(with_units(part, signature, least, 8)).macs == least
    with pytest.raises(TooWide) as caught:
        with_units(part, signature, least - 1, 8)
    assert caught.value.least == least


def test_the_budget_sees_heads_that_are_narrowed_already(clean, tiny_probes):
    """What is not afforded with the heads that are tried first is with narrower ones."""
    signature = clean.contract.signature("vision")
    asked = []

    def afford(part):
        heads, units = spent(part, signature)
        asked.append(heads)
        return 0 if heads >= asked[0] else heads + units // 2

    step = NarrowEncoder(multiple=1)
    step.calibration = observe(clean, tiny_probes[:4])
    settled = step.settle(clean, afford)
    assert settled.energy < FIRST and asked[-1] < asked[0]
    with pytest.raises(TooWide):
        step.settle(clean, lambda part: 0)
