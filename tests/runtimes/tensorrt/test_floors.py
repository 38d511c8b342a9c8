"""What an engine may stray is what the host saw its part stray, within what it allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.passes.precision.cast_half import CastHalf
from edgevlm.runtimes.base import Shown
from edgevlm.runtimes.tensorrt.floors import FLOOR_DB, floor_of


class Straying:
    """The parts of a model, whose floats are off by so many dB."""

    def __init__(self, parts, db):
        self.parts, self.by = parts, 10 ** (-db / 20)

    def call(self, role, feeds):
        made = self.parts.call(role, feeds)
        return {n: self._off(v) if v.dtype.kind == "f" else v for n, v in made.items()}

    def _off(self, value):
        signs = np.where(np.arange(value.size) % 2, 1, -1).reshape(value.shape)
        return (value * (1 + self.by * signs)).astype(value.dtype)


@pytest.fixture(scope="module")
def half(micro_model, micro_probes):
    model = apply_unchecked(micro_model, [CastHalf()], micro_probes[:2])
    return model, observe(model, micro_probes[:2])


def floor(model, seen, db, role="vision"):
    shown = Shown((), (), seen, Straying(ReferenceParts(model.parts), db))
    return floor_of(model, model.parts[role], shown, role)


def test_a_part_in_float32_keeps_what_is_fixed(micro_model, micro_probes):
    seen = observe(micro_model, micro_probes[:2])
    assert floor(micro_model, seen, 5) == FLOOR_DB


@pytest.mark.parametrize("db, wanted", [(60, FLOOR_DB), (30, 24), (20, 14), (12, 10), (3, 10)])
def test_one_in_float16_may_stray_as_its_artifact_did(half, db, wanted):
    assert floor(*half, db) == pytest.approx(wanted, abs=0.7)


def test_a_part_that_was_not_seen_keeps_what_is_fixed(half):
    model, seen = half
    blind = replace(seen, feeds=[{"vision": each["vision"]} for each in seen.feeds])
    assert floor(model, blind, 5, "decode") == FLOOR_DB
