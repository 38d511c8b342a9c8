"""The hand-written model the other tests stand on is a model like any other."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.reference import observe
from edgevlm.compiler.validate import validate


def test_it_is_valid(micro_model):
    validate(micro_model)
    weights = [
        v.const_value for p in micro_model.parts.values() for v in p.graph.initializers.values()
    ]
    assert sum(w.size for w in weights) < 2500


def test_its_answers_depend_on_picture_and_question(micro_model, micro_probes):
    seen = observe(micro_model, micro_probes)
    assert all(np.isfinite(logits).all() for logits in seen.logits)
    assert not np.allclose(seen.logits[0], seen.logits[1], atol=1e-2)
    assert any(len(answer) > 2 for answer in seen.answers)
    blank = [type(micro_probes[0])(p.pixel_values * 0, p.before, p.after) for p in micro_probes]
    assert not np.allclose(seen.logits[0], observe(micro_model, blank).logits[0], atol=1e-2)


@pytest.mark.parametrize("mask", [None, "zeros", "trues"])
def test_masks_that_mask_nothing_change_nothing(make_micro, micro_probes, mask):
    plain, masked = (observe(make_micro(layers=2, mask=m), micro_probes) for m in (None, mask))
    for a, b in zip(plain.logits, masked.logits, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
