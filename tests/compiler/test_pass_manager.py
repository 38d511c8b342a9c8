"""Passes run in order, each against what the one before left, and everything is written down."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.pass_manager import Originals, apply_unchecked, run_passes
from edgevlm.compiler.reference import Reference, observe


class ScaleHead(Pass):
    name, summary, effect = "scale-head", "multiplies the logits", Effect.APPROXIMATE

    class Options(PassOptions):
        by: float = 1.0

    def run(self, model):
        note = Note("matched" if self.options.by != 1 else "skipped", "prefill/head", "by request")
        if self.options.by == 1:
            return PassResult(model, False, (note,))
        part = model.parts["prefill"].clone()
        head = part.graph.initializers["head"]
        head.const_value = ir.tensor(
            head.const_value.numpy() * np.float32(self.options.by), name="head"
        )
        return PassResult(model.with_parts(prefill=part), True, (note,))


def test_every_pass_is_recorded_with_options_notes_and_check(micro_model, micro_probes):
    steps = [ScaleHead(by=1.05), ScaleHead(), ScaleHead(by=0.95)]
    said = []
    _, record, _ = run_passes(micro_model, steps, micro_probes, progress=said.append)
    assert said == ["scale-head"] * 3
    assert [r.changed for r in record] == [True, False, True]
    assert [r.options for r in record] == [{"by": 1.05}, {"by": 1.0}, {"by": 0.95}]
    assert [r.notes[0].kind for r in record] == ["matched", "skipped", "matched"]
    assert record[1].check is None and record[0].check.probes == 3
    assert all(r.seconds > 0 for r in record)
    data = json.loads(json.dumps([r.as_json() for r in record], allow_nan=False))
    assert data[0]["check"]["how"] == "measured-host" and data[1]["check"] is None
    assert data[0]["notes"] == [{"kind": "matched", "where": "prefill/head", "why": "by request"}]


def test_drift_is_measured_against_the_pass_before_and_not_against_the_source(
    micro_model, micro_probes
):
    """1.05 x 0.95 = 0.9975: 52 dB against the source, 26 dB against the pass before."""
    _, record, _ = run_passes(micro_model, [ScaleHead(by=1.05), ScaleHead(by=0.95)], micro_probes)
    for applied, error in zip(record, (0.05, 0.05), strict=True):
        assert abs(applied.check.drift["prefill"].sqnr_db + 20 * np.log10(error)) < 0.01


def test_the_last_observation_is_of_the_final_model(micro_model, micro_probes):
    model, _, seen = run_passes(micro_model, [ScaleHead(by=1.1)], micro_probes)
    again = observe(model, micro_probes)
    assert all(np.array_equal(a, b) for a, b in zip(seen.logits, again.logits, strict=True))
    assert seen.answers == again.answers


def test_no_passes_change_nothing(micro_model, micro_probes):
    model, record, seen = run_passes(micro_model, [], micro_probes)
    assert model is micro_model and record == []
    assert seen.answers == observe(micro_model, micro_probes).answers


def test_parts_that_no_pass_touched_keep_their_sessions(micro_model, micro_probes):
    run_passes(micro_model, [], micro_probes)
    session = ReferenceParts._sessions[micro_model.parts["vision"]]
    model, *_ = run_passes(micro_model, [ScaleHead(by=1.1)], micro_probes)
    assert model.parts["vision"] is micro_model.parts["vision"]
    assert ReferenceParts._sessions[model.parts["vision"]] is session


def test_a_classifier_is_proved_by_its_logits(graph, micro_model, micro_probes):
    from dataclasses import replace

    contract = micro_model.contract.model_copy(update={"kind": "classifier", "vocabulary": 3})
    text = """(float[1,3,6,6] pixel_values) => (float[1,3] logits) {
        logits = ReduceMean<keepdims = 0>(pixel_values, axes) }"""
    part = graph(text, axes=np.array([2, 3]))
    model = replace(micro_model, contract=contract, parts={"vision": part})

    class Worse(ScaleHead):
        name, effect = "worse", Effect.STRUCTURAL

        def run(self, model):
            part = model.parts["vision"].clone()
            part.graph.node(0).op_type = "ReduceMax"
            return PassResult(model.with_parts(vision=part), True)

    _, record, seen = run_passes(model, [Worse()], micro_probes)
    assert [len(a) for a in seen.answers] == [1, 1, 1]
    assert record[0].check.logits.sqnr_db < 20 and record[0].check.drift == {}
    best = [int(p.pixel_values.max(axis=(2, 3)).argmax()) for p in micro_probes]
    assert [a[0] for a in seen.answers] == best


class Looks(Pass):
    """Remembers what it was handed."""

    name, summary, effect = "look-on", "it changes nothing and sees everything", Effect.EXACT

    def run(self, model):
        self.seen = self.calibration
        return PassResult(model, False)


def test_a_pass_is_handed_what_the_model_in_hand_does(micro_model, micro_probes):
    first, last = Looks(), Looks()
    assert first.calibration is None
    model, _, seen = run_passes(micro_model, [first, ScaleHead(by=1.1), last], micro_probes)
    assert last.seen is seen and first.seen is not seen
    before, after = observe(micro_model, micro_probes), observe(model, micro_probes)
    assert np.array_equal(first.seen.logits[0], before.logits[0])
    assert np.array_equal(last.seen.logits[0], after.logits[0])
    assert {"vision", "connector", "prefill"} <= last.seen.feeds[0].keys()


def test_a_pass_that_goes_by_images_alone_costs_no_run(micro_model, micro_probes, monkeypatch):
    """It is given what a run would have fed the vision part."""
    probes = [replace(p, truth="x", said=(3,)) for p in micro_probes]
    wanted = observe(micro_model, probes).fed("vision")
    look = Looks()
    look.calibrated = look.images_only = True
    known = Reference([], [], [])
    monkeypatch.setattr(ReferenceParts, "call", lambda *_: pytest.fail("a part was run"))
    run_passes(micro_model, [look], probes, calibration=probes, seen=known)
    given = look.seen.fed("vision")
    for mine, theirs in zip(given, wanted, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[k], theirs[k]) for k in mine)
    assert look.seen.truths == ["x"] * len(probes) and look.seen.said == [(3,)] * len(probes)


def test_probes_may_be_made_for_each_model(micro_model, micro_probes):
    asked = []

    def make(model):
        asked.append(model)
        return micro_probes

    model, _, _ = run_passes(micro_model, [ScaleHead(by=1.1), ScaleHead()], make)
    assert asked == [micro_model, model]


def test_probes_of_another_size_are_told_apart_from_a_broken_graph(micro_model, micro_probes):
    wrong = [replace(p, pixel_values=p.pixel_values[:, :, :4]) for p in micro_probes]
    with pytest.raises(JobFault, match="probes of other than 6 x 6 pixels") as caught:
        run_passes(micro_model, [], wrong)
    assert caught.value.code == "EV501"


def test_a_pass_is_shown_what_an_earlier_one_was_given(micro_model, micro_probes):
    """The model in front of the first of those it names that the recipe has; None without one."""
    seen = []

    class Look(Pass):
        name, summary, effect, since = "look-back", "", Effect.EXACT, ("first-one", "second-one")

        def run(self, model):
            seen.append(self.original)
            return PassResult(model, False)

    class Second(Pass):
        name, summary, effect = "second-one", "", Effect.STRUCTURAL

        def run(self, model):
            return PassResult(model.with_parts(vision=model.parts["vision"].clone()), True)

    class First(Second):
        name = "first-one"

    def in_two(steps):
        """As a compile does that has to stop and measure in between."""
        originals = Originals(steps)
        first, *_ = run_passes(micro_model, steps[:-1], micro_probes, originals=originals)
        run_passes(first, steps[-1:], micro_probes, originals=originals)

    look = Look()
    for run in (
        lambda steps: run_passes(micro_model, steps, micro_probes),
        lambda steps: apply_unchecked(micro_model, steps),
        in_two,
    ):
        run([look])
        run([Second(), look])
        run([First(), Second(), look])
        made = seen[-1]
        run([Second(), First(), look])
        assert seen[:3] == [None, micro_model, micro_model] and made is micro_model
        assert seen[3] is not None and seen[3] is not micro_model  # the first one named counts
        seen.clear()
