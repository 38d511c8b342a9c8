"""Logits of some classes: as they were, in order, nothing masked, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.derive.keep_classes import KeepClasses

NAMES = ("ape", "bee", "cat", "dog", "eel", "fox")


def kept(model, *classes):
    return KeepClasses(classes=classes)(model)


@given(st.sets(st.integers(0, 5), min_size=2, max_size=5), st.randoms())
def test_kept_logits_are_as_they_were_and_in_the_models_order(
    classifier, pictures, said, places, order
):
    asked = [NAMES[i].upper() for i in places]
    order.shuffle(asked)
    result = kept(classifier, *asked)
    probes, mine = pictures(3), sorted(places)
    assert result.changed and result.model.processor.class_names == tuple(NAMES[i] for i in mine)
    assert result.model.contract.vocabulary == len(mine)
    np.testing.assert_allclose(
        said(result.model, probes), said(classifier, probes)[:, mine], rtol=1e-6, atol=1e-6
    )


def constants(part):
    return {n: v.const_value.numpy() for n, v in part.graph.initializers.items()}


def test_columns_of_the_head_go(classifier):
    made = kept(classifier, "cat", "fox").model.parts["vision"]
    before, after = (constants(p) for p in (classifier.parts["vision"], made))
    heads = [n for n, a in before.items() if a.shape[-1:] == (6,) and a.ndim == 2]
    assert len(heads) == 1
    found = [a for a in after.values() if a.shape == (16, 2)]
    assert len(found) == 1 and np.array_equal(found[0], before[heads[0]][:, [2, 5]])
    assert not any(a.shape[-1:] == (6,) for a in after.values())
    assert count(made).macs == count(classifier.parts["vision"]).macs - 16 * 4
    assert [n.op_type for n in made.graph] == [n.op_type for n in classifier.parts["vision"].graph]


def with_prototypes(classifier):
    """Behind the logits a constant of all classes that no analysis can cut: a flat reshape."""
    part = classifier.parts["vision"].clone()
    logits = part.graph.outputs[0]
    logits.name = "bare"
    build = GraphBuilder(part, "fold")
    folded = build("Reshape", logits, build.const([1, 2, 3]))
    turned = build("Transpose", folded, perm=[0, 2, 1])
    back = build("Reshape", turned, build.const([1, 6]))
    back.name = "logits"
    part.graph.outputs[0] = back
    build.finish()
    return classifier.with_parts(vision=part)


def test_a_head_that_cannot_be_cut_is_gathered_from(classifier, pictures, said):
    folded, probes = with_prototypes(classifier), pictures(3)
    result = kept(folded, "fox", "bee", "dog")
    assert "gathered behind the head" in result.notes[0].why
    np.testing.assert_array_equal(said(result.model, probes), said(folded, probes)[:, [1, 3, 5]])
    assert [str(v.name) for v in result.model.parts["vision"].graph.outputs] == ["logits"]
    assert list(result.model.parts["vision"].graph.outputs[0].shape) == [1, 3]


@pytest.mark.parametrize("wrap", [lambda m: m, with_prototypes])
def test_no_number_is_there_that_would_ruin_an_int8_range(classifier, pictures, said, wrap):
    model, probes = wrap(classifier), pictures(20)
    made = kept(model, "cat", "fox").model
    old, new = (
        max(float(np.abs(a).max()) for a in constants(m.parts["vision"]).values()
            if a.dtype == np.float32)
        for m in (model, made)
    )  # fmt: skip
    assert new <= old and np.abs(said(made, probes)).max() <= np.abs(said(model, probes)).max()


def test_no_classes_are_all_classes(classifier):
    result = KeepClasses()(classifier)
    assert not result.changed and result.model is classifier


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("cat", "dgo"), "the nearest: dog"),
        (("cat",), "two classes are the least"),
        (NAMES, "all 6 classes"),
        (("cat", "CAT"), "there twice"),
    ],
)
def test_classes_that_cannot_be_kept(classifier, classes, said):
    with pytest.raises(UsageFault) as caught:
        kept(classifier, *classes)
    assert caught.value.code == "EV135" and said in caught.value.why


def test_a_model_without_classes(micro_model, classifier):
    with pytest.raises(UsageFault) as caught:
        kept(micro_model, "cat", "dog")
    assert caught.value.code == "EV250" and "--domain FOLDER" in caught.value.fix
    size = {"map_channels": 2, "map_height": 4, "map_width": 4}
    dense = classifier.contract.model_copy(update={"kind": "dense"} | size)
    with pytest.raises(UsageFault) as caught:
        kept(replace(classifier, contract=dense), "cat", "dog")
    assert caught.value.code == "EV250" and "a map" in caught.value.why
