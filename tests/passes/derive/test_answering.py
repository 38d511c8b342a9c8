"""Masks judged by answers: logits as the model itself gives them, gradients through three parts."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import load_model
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.models.answer import inputs_of
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes import make_passes
from edgevlm.passes.derive.purify_units import PurifyUnits
from edgevlm.passes.pipelines import Flags, compose

torch = pytest.importorskip("torch", reason="masks need: pip install 'edgevlm[torch]'")

from edgevlm.compiler.axes import analyse  # noqa: E402
from edgevlm.compiler.to_torch import to_torch  # noqa: E402
from edgevlm.passes.derive.answering import Answering  # noqa: E402
from edgevlm.passes.derive.mlps import find_mlps  # noqa: E402


@pytest.fixture(scope="module")
def clean(tiny_model):
    return apply_unchecked(tiny_model, make_passes(compose("host-cpu", "ort", Flags())))


@pytest.fixture(scope="module")
def seen(clean, tiny_probes):
    return observe(clean, tiny_probes)


@pytest.fixture(scope="module")
def mlps(clean):
    signature = clean.contract.signature("vision")
    return find_mlps(analyse(clean.parts["vision"].graph, signature))


@pytest.fixture(scope="module")
def answering(clean, seen, mlps):
    names = [str(mlp.hidden.name) for mlp in mlps]
    some = np.arange(len(seen.feeds))
    return Answering(to_torch(clean.parts["vision"]), names, clean.parts, seen, some)


@pytest.mark.parametrize("name", ["easyvqa-tiny", "scenes-tiny"])
def test_an_answer_begins_with_the_token_that_the_model_says(name):
    """Of every probe that the model answers right, by its own greedy answer."""
    model = load_model(bundled_folder(name))
    probes = inputs_of(model)
    found = observe(model, probes)
    right = [i for i, (a, b) in enumerate(zip(found.answers, found.said, strict=True)) if a == b]
    assert len(right) >= 0.8 * len(probes)
    assert all(found.said)


def test_logits_are_those_of_the_chain(answering, seen):
    with torch.no_grad():
        got = answering.logits((), np.arange(len(seen.feeds))).numpy()
    wanted = np.concatenate(seen.logits)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_the_picture_is_what_the_answer_hangs_on(answering, seen):
    """With other pictures the logits are others: embeddings are not those that were observed."""
    rows = np.arange(4)
    with torch.no_grad():
        before = answering.logits((), rows)
        answering.pictures = answering.pictures.flip(0)
        other = answering.logits((), rows)
        answering.pictures = answering.pictures.flip(0)
    assert (before - other).abs().max() > 1


def test_the_gradient_of_a_mask_is_that_of_differences(answering, mlps):
    masks = [torch.ones(mlp.width, dtype=torch.float32) for mlp in mlps]
    masks[0].requires_grad_()
    answering.loss(masks, np.arange(4)).backward()
    units = masks[0].grad.abs().argsort()[-3:]
    for unit in units.tolist():
        sides = []
        for step in (0.05, -0.05):
            moved = [m.detach().clone() for m in masks]
            moved[0][unit] += step
            with torch.no_grad():
                sides.append(float(answering.loss(moved, np.arange(4))))
        assert masks[0].grad[unit].item() == pytest.approx((sides[0] - sides[1]) / 0.1, rel=0.1)


def test_a_tower_is_purified_by_answers(clean, seen):
    step = PurifyUnits(by="lm", steps=4, batch=4, rate=0.02)
    step.calibration = seen
    result = step(clean)
    assert "cross-entropy of the first answer token" in result.notes[0].why


def test_answers_that_nobody_knows(clean, seen, classifier):
    step = PurifyUnits(by="lm", steps=1)
    step.calibration = observe(clean, [])
    step.calibration.feeds.extend(seen.feeds[:2])
    step.calibration.said.extend([(), (4,)])
    with pytest.raises(UsageFault) as caught:
        step(clean)
    assert caught.value.code == "EV250" and "1 of 2 rows" in caught.value.what
    step.calibration = observe(classifier, [])
    with pytest.raises(UsageFault) as caught:
        step(classifier)
    assert caught.value.code == "EV250" and "answers no questions" in caught.value.why
