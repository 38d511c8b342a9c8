"""A narrowed encoder is taught by the whole one: nearer on unseen pictures, never worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.pass_manager import apply_unchecked, run_passes
from edgevlm.compiler.reference import observe
from edgevlm.passes.derive.keep_classes import KeepClasses
from edgevlm.passes.derive.narrow_encoder import NarrowEncoder
from edgevlm.passes.derive.recover_encoder import RecoverEncoder

pytest.importorskip("torch", reason="a recovery needs: pip install 'edgevlm[torch]'")
SMALL = {"steps": 60, "rate": 1e-3}


@pytest.fixture(scope="module")
def fit(pictures):
    return pictures(120)


@pytest.fixture(scope="module")
def unseen(pictures):
    return pictures(80, seed=1)


@pytest.fixture(scope="module")
def narrowed(classifier, fit):
    harsh = NarrowEncoder(alpha=0.45, multiple=2)
    return apply_unchecked(classifier, [harsh], fit)


def recovered(base, narrowed, fit, **options):
    step = RecoverEncoder(**SMALL | options)
    step.original, step.calibration = base, observe(narrowed, fit)
    return step(narrowed)


def far(said, base, model, probes):
    wanted, got = said(base, probes), said(model, probes)
    return ((wanted - got) ** 2).sum() / (wanted**2).sum()


@pytest.mark.parametrize(("loss", "share"), [("lift", 0.95), ("mse", 0.85)])
def test_it_comes_nearer_to_the_base_on_pictures_nobody_has_seen(
    classifier, narrowed, fit, unseen, said, loss, share
):
    result = recovered(classifier, narrowed, fit, loss=loss, steps=150)
    before, after = (far(said, classifier, m, unseen) for m in (narrowed, result.model))
    assert result.changed and before > 0.01 and after < share * before, (before, after)
    assert "pictures held out" in result.notes[0].why


def test_shapes_ops_and_constants_stay(classifier, narrowed, fit):
    made = recovered(classifier, narrowed, fit).model.parts["vision"].graph
    was = narrowed.parts["vision"].graph
    assert [n.op_type for n in made] == [n.op_type for n in was]
    for name, value in was.initializers.items():
        new, old = made.initializers[name].const_value, value.const_value
        assert (new.dtype, tuple(new.shape)) == (old.dtype, tuple(old.shape))
        if not np.issubdtype(old.numpy().dtype, np.floating) or old.size == 1:
            assert np.array_equal(new.numpy(), old.numpy()), name


def test_training_that_is_no_help_changes_nothing(classifier, narrowed, fit):
    result = recovered(classifier, narrowed, fit, rate=1.0, steps=2)
    assert not result.changed and result.model is narrowed
    assert "no help" in result.notes[0].why


def test_the_note_tells_the_error_of_the_stored_graph(classifier, narrowed, fit, said):
    """What torch measured and what ONNX Runtime gives of the graph that was written back."""
    result = recovered(classifier, narrowed, fit)
    after = float(result.notes[0].why.split("-> ")[1].split()[0])
    assert far(said, classifier, result.model, fit[3::4]) == pytest.approx(after, abs=1e-4)


def test_the_same_seed_gives_the_same_weights(classifier, narrowed, fit, said):
    one, two, other = (
        said(recovered(classifier, narrowed, fit, steps=10, seed=s).model, fit[:4])
        for s in (3, 3, 4)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_constant_that_nodes_share_stays_one(classifier, narrowed, fit, said):
    part = narrowed.parts["vision"].clone()
    gains = [v for v in part.graph.initializers.values() if v.name == "gain"]
    assert len(list(gains[0].uses())) > 1
    made = recovered(classifier, narrowed.with_parts(vision=part), fit).model.parts["vision"]
    gain = made.graph.initializers["gain"]
    assert len(list(gain.uses())) == len(list(gains[0].uses()))
    assert not np.array_equal(gain.const_value.numpy(), gains[0].const_value.numpy())


def test_a_recipe_hands_over_the_base_with_its_classes_cut(classifier, fit):
    probes = fit[:4]
    steps = [KeepClasses(classes=("ape", "cat", "fox")), NarrowEncoder(alpha=0.45, multiple=2)]
    recover = RecoverEncoder(**SMALL, loss="mse")
    made, record, _ = run_passes(classifier, [*steps, recover], probes, calibration=fit)
    assert record[-1].changed and made.contract.vocabulary == 3
    assert recover.original.contract.vocabulary == 3
    whole = classifier.parts["vision"].graph.initializers["up_0"].shape
    assert recover.original.parts["vision"].graph.initializers["up_0"].shape == whole


@pytest.mark.parametrize("front", [(), (NarrowEncoder(alpha=0.0, energy=1.0),)])
def test_nothing_narrowed_is_nothing_to_recover(classifier, fit, front):
    made, record, _ = run_passes(classifier, [*front, RecoverEncoder()], fit[:8])
    assert made is classifier and "made the encoder smaller" in record[-1].notes[0].why


def test_too_few_pictures(classifier, narrowed, fit):
    result = recovered(classifier, narrowed, fit[:3])
    assert not result.changed and "3 pictures" in result.notes[0].why


def test_a_part_that_drops_tokens_is_left_alone(classifier, narrowed, fit):
    part = narrowed.parts["vision"].clone()
    part.graph.outputs.append(next(iter(part.graph)).outputs[0])
    two = replace(narrowed, parts={"vision": part})
    step = RecoverEncoder()
    step.original, step.calibration = classifier, observe(narrowed, fit)
    assert "drops tokens" in step.run(two).notes[0].why
