"""The case the clean-up was written for: 30 layers, each with its own Cos, Sin and idle mask."""

from __future__ import annotations

from collections import Counter

import pytest

from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import PIPELINES

CLEANUP = Recipe("cpu", tuple(Step(name) for name in PIPELINES["ort"][0].passes))


def counts(part):
    ops = Counter(n.op_type for n in part.graph)
    masks = sum(
        len(n.inputs) > 3 and n.inputs[3] is not None
        for n in part.graph
        if n.op_type == "Attention"
    )
    return ops["Cos"], ops["Sin"], masks


@pytest.mark.parametrize(("mask", "layers"), [("zeros", 30), ("trues", 5)])
def test_one_cos_one_sin_and_no_mask_are_left(make_micro, micro_probes, mask, layers):
    model = make_micro(layers=layers, mask=mask)
    assert counts(model.parts["prefill"]) == (2 * layers, 2 * layers, layers)
    assert counts(model.parts["decode"]) == (2 * layers, 2 * layers, layers)
    before = {role: len(part.graph) for role, part in model.parts.items()}
    passes = make_passes(CLEANUP)
    clean, record, _ = run_passes(model, passes, micro_probes)
    assert counts(clean.parts["prefill"]) == (1, 1, 0)
    # the mask of decode is an input: it stays
    assert counts(clean.parts["decode"]) == (1, 1, layers)
    assert not [name for name in clean.parts["prefill"].graph.initializers if "idle" in name]
    for role in ("prefill", "decode"):
        assert len(clean.parts[role].graph) == before[role] - 2 * (2 * layers - 1)
    for applied in record:
        if applied.check:
            assert applied.check.agree == applied.check.probes
            assert all(d.sqnr_db == 200 for d in applied.check.drift.values())
    told = [n for r in record for n in r.notes if n.kind == "skipped"]
    assert len(told) == layers
    assert all("is an input" in n.why and "decode/" in n.where for n in told)


def test_the_pipeline_has_nothing_left_to_do_the_second_time(make_micro, micro_probes):
    model = make_micro(layers=3, mask="zeros")
    passes = make_passes(CLEANUP)
    clean, _, _ = run_passes(model, passes, micro_probes)
    _, record, _ = run_passes(clean, passes, micro_probes)
    assert len(record) == len(passes) and not any(r.changed for r in record)
