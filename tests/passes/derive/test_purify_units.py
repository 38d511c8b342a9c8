"""Units that mislead on these pictures go, the others stay as they are; nothing gets worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.reference import observe
from edgevlm.passes.derive.purify_units import PurifyUnits

pytest.importorskip("torch", reason="masks need: pip install 'edgevlm[torch]'")
WIDTH, NOISY = 32, 8  # hidden units of a block; of these, planted


@pytest.fixture(scope="module")
def misled(classifier):
    """Eight more units in the last block, that write large nonsense into the stream."""
    part, rng = classifier.parts["vision"].clone(), np.random.default_rng(3)
    graph = part.graph
    up, down = (graph.initializers[name] for name in ("up_1", "down_1"))
    more = rng.normal(size=(16, NOISY)) * 1.5
    wrong = rng.normal(size=(NOISY, 16)) * 3
    for value, extra, axis in ((up, more, 1), (down, wrong, 0)):
        array = np.concatenate([value.const_value.numpy(), extra.astype(np.float32)], axis=axis)
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
    for node in graph:
        for out in node.outputs:
            if out.name in ("u_1", "g_1"):
                out.shape = ir.Shape([1, 17, WIDTH + NOISY])
    return classifier.with_parts(vision=part)


def stored(model, name):
    """A weight by its name, also where a pass wrote another version of it."""
    found = model.parts["vision"].graph.initializers
    (value,) = (v for n, v in found.items() if n == name or n.startswith(f"{name}~"))
    return value.const_value.numpy()


def purified(model, probes, **options):
    step = PurifyUnits(**{"steps": 120, "rate": 0.02} | options)
    step.calibration = observe(model, probes)
    return step(model)


def test_planted_units_go_first(misled, pictures, said):
    fit, unseen = pictures(160), pictures(80, seed=1)  # truths are those of the unspoilt model
    result = purified(misled, fit)
    assert result.changed, result.notes
    kept, was = (stored(m, "up_1") for m in (result.model, misled))
    gone = [i for i in range(WIDTH + NOISY) if not (was[:, i] == kept.T).all(1).any()]
    planted = [i for i in gone if i >= WIDTH]
    assert len(planted) >= NOISY / 2 and len(planted) / NOISY > (len(gone) - len(planted)) / WIDTH
    truth = np.array([misled.processor.class_names.index(p.truth) for p in unseen])
    before, after = ((said(m, unseen).argmax(1) == truth).mean() for m in (misled, result.model))
    assert after > before


def test_units_that_stay_are_as_they_were_and_no_mask_is_left(misled, pictures):
    made = purified(misled, pictures(80)).model
    new, old = (m.parts["vision"] for m in (made, misled))
    assert [n.op_type for n in new.graph] == [n.op_type for n in old.graph]
    assert count(new).macs < count(old).macs
    for name in ("down_0", "down_1"):
        kept, was = stored(made, name), stored(misled, name)
        places = [int(np.flatnonzero((was == row).all(1))[0]) for row in kept]
        assert places == sorted(set(places))


def test_the_loss_in_the_note_is_that_of_the_graph_that_is_left(misled, pictures, said):
    fit = pictures(80)
    result = purified(misled, fit)
    held = fit[3::4]
    logits = said(result.model, held).astype(np.float64)
    truth = [misled.processor.class_names.index(p.truth) for p in held]
    own = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(held)), truth]
    told = float(result.notes[0].why.split("-> ")[1].split()[0])
    assert own.mean() == pytest.approx(told, abs=2e-4)


def test_by_features_needs_no_classes(misled, pictures):
    fit = [replace(p, truth=None) for p in pictures(40)]
    with pytest.raises(UsageFault) as caught:
        purified(misled, fit, steps=2)
    assert caught.value.code == "EV250" and "40 of 40 pictures" in caught.value.what
    result = purified(misled, fit, steps=2, by="features")
    assert "relative squared error 0.0000" in result.notes[0].why
