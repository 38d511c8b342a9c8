"""Processor and tokenizer around the token loop: the same answer however it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import Trace
from edgevlm.models.answer import Answerer, image_processor, inputs_of, probe_inputs, text_processor


@pytest.fixture(scope="module")
def answerer(tiny_model):
    return Answerer(
        tiny_model.contract, tiny_model.processor, tiny_model.tokenizer,
        ReferenceParts(tiny_model.parts),
    )  # fmt: skip


def test_every_probe_is_answered_right(answerer, tiny_model):
    assert [answerer.answer(p.image, p.question).text for p in tiny_model.probes] == [
        p.answer for p in tiny_model.probes
    ]


def test_a_picture_may_be_looked_at_once_for_many_questions(answerer, tiny_model):
    probe = tiny_model.probes[0]
    seen = answerer.look(probe.image)
    for question in ("what color is the shape?", "is there a circle?", "is there a red shape?"):
        assert answerer.answer(seen, question).token_ids == (
            answerer.answer(probe.image, question).token_ids
        )


def test_the_stream_is_the_answer(answerer, tiny_model):
    probe, ids, trace = tiny_model.probes[0], [], Trace()
    image = answerer.look(probe.image, trace)
    pieces = list(answerer.stream(image, probe.question, trace=trace, ids=ids))
    whole = answerer.answer(probe.image, probe.question)
    assert "".join(pieces) == whole.text and tuple(ids) == whole.token_ids and all(pieces)
    assert set(trace.seconds) == set(whole.seconds) - {"end_to_end"}


def test_seconds_are_told_by_stage(answerer, tiny_model):
    probe = tiny_model.probes[0]
    seconds = answerer.answer(probe.image, probe.question).seconds
    assert list(seconds) == [
        "preprocess", "vision", "connector", "prefill", "decode", "end_to_end",
    ]  # fmt: skip
    assert all(len(values) == 1 and values[0] > 0 for values in seconds.values())
    assert sum(sum(v) for k, v in seconds.items() if k != "end_to_end") < seconds["end_to_end"][0]


def test_max_new_is_a_ceiling(answerer, tiny_model):
    probe = tiny_model.probes[0]
    assert len(answerer.answer(probe.image, probe.question, max_new=1).token_ids) == 1
    seen = answerer.look(probe.image)
    assert list(answerer.stream(seen, probe.question, max_new=1)) == ["teal"]


@pytest.mark.parametrize(
    ("question", "code"),
    [("", "EV121"), ("is " * 99, "EV120"), ("<image>", "EV122"), ("\udcff", "EV123")],
)
def test_a_question_is_refused_before_anything_runs(tiny_model, question, code):
    class Never:
        def call(self, role: str, feeds: object) -> None:
            raise AssertionError("nothing may run")

    answerer = Answerer(tiny_model.contract, tiny_model.processor, tiny_model.tokenizer, Never())
    with pytest.raises(UsageFault, match=code):
        answerer.prompt(question)
    with pytest.raises(UsageFault, match=code):
        next(answerer.stream(object(), question))


def changed(model, **fields):
    return model.processor.model_copy(update=fields)


def test_settings_that_no_processor_has_are_told(tiny_model):
    good = tiny_model.processor.image
    assert image_processor(tiny_model.contract, tiny_model.processor).height == 64
    for image, what in (
        ({**good, "bogus": 1}, "bogus"),
        ({k: v for k, v in good.items() if k != "height"}, "height"),
        ({**good, "std": [0, 0, 0]}, "std.0"),
        ({**good, 5: 1}, "its settings"),
    ):
        with pytest.raises(JobFault) as caught:
            image_processor(tiny_model.contract, changed(tiny_model, image=image))
        assert caught.value.code == "EV103" and what in caught.value.what


@pytest.mark.parametrize("side", ["height", "width"])
def test_pictures_of_another_size_than_the_graph_are_refused(tiny_model, side):
    image = {**tiny_model.processor.image, side: 32}
    with pytest.raises(JobFault, match="EV106 the image processor breaks the contract"):
        image_processor(tiny_model.contract, changed(tiny_model, image=image))


@pytest.mark.parametrize("template", ["", "{question}", "<image>", "<image>{question}{question}"])
def test_a_template_without_its_places_is_told(tiny_model, template):
    with pytest.raises(JobFault, match="EV104 the prompt template"):
        text_processor(changed(tiny_model, template=template), tiny_model.tokenizer)


def test_token_ids_beyond_the_vocabulary_are_refused(tiny_model):
    """Otherwise the embedding would read past its table."""
    processor, tokenizer, probes = tiny_model.processor, tiny_model.tokenizer, tiny_model.probes
    inputs = probe_inputs(tiny_model.contract, processor, tokenizer, probes)
    tops = [max(probe.before + probe.after) for probe in inputs]
    highest = tops.index(max(tops))
    small = tiny_model.contract.model_copy(update={"vocabulary": tops[highest]})
    with pytest.raises(JobFault, match=f"EV104 tokenizer.json gives token {tops[highest]}"):
        probe_inputs(small, processor, tokenizer, probes)
    with pytest.raises(JobFault, match=f"EV104 tokenizer.json gives token {tops[highest]}"):
        Answerer(small, processor, tokenizer, None).prompt(probes[highest].question)


def test_probes_become_tensors_and_ids(tiny_model):
    inputs = inputs_of(tiny_model)
    assert len(inputs) == 12
    for probe in inputs:
        assert probe.pixel_values.shape == (1, 3, 64, 64)
        assert probe.pixel_values.dtype == np.float32 and np.abs(probe.pixel_values).max() <= 1
        assert probe.before and probe.after
        assert len(probe.before) + len(probe.after) <= tiny_model.contract.prompt_capacity


def test_a_classifier_needs_no_words(tiny_model):
    contract = tiny_model.contract.model_copy(update={"kind": "classifier"})
    inputs = probe_inputs(contract, tiny_model.processor, b"", tiny_model.probes)
    assert all(probe.before == probe.after == () for probe in inputs)
