"""Scenes are the same bytes everywhere, differ between splits, and hold what they say they hold."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.models.zoo.scenes import dataset, facts, questions, scenes

SPLITS = (scenes.TRAIN, scenes.VALIDATION, scenes.TEST)
drawn = st.builds(scenes.make_scene, st.sampled_from(SPLITS), st.integers(0, 10**6))
# Of the pictures and the questions of the first 20 test scenes, as first generated with numpy 2.
PICTURES = "32ae9ccf1370f60c"
ASKED = "34b053d32b3f0941"


def digest(parts):
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]


def test_the_same_bytes_on_every_machine():
    made = [scenes.make_scene(scenes.TEST, i) for i in range(20)]
    asked = [dataset.asked(scenes.TEST, i, things=scene.things) for i, scene in enumerate(made)]
    assert digest(scene.image.tobytes() for scene in made) == PICTURES
    assert digest(repr(rows).encode() for rows in asked) == ASKED


def test_no_picture_is_in_two_splits():
    held = {
        split: {scenes.make_scene(split, i).image.tobytes() for i in range(dataset.SCENES[split])}
        for split in (scenes.VALIDATION, scenes.TEST)
    }
    train = {scenes.make_scene(scenes.TRAIN, i).image.tobytes() for i in range(600)}
    test, validation = held[scenes.TEST], held[scenes.VALIDATION]
    assert len(test) == 500 and len(validation) == 200 and len(train) == 600
    # A training picture may be shown mirrored, so its mirror image counts as seen.
    turned = {np.frombuffer(x, np.uint8).reshape(96, 96, 3)[:, ::-1].tobytes() for x in train}
    assert not test & (train | turned) and not test & validation and not validation & train


@settings(deadline=None, max_examples=40)
@given(drawn)
def test_things_are_in_the_picture_and_apart(scene):
    assert scene.image.shape == (96, 96, 3) and scene.image.dtype == np.uint8
    assert 3 <= len(scene.things) <= 6 and any(t.size == "small" for t in scene.things)
    boxes = [
        (t.cx - t.extent / 2, t.cx + t.extent / 2, t.cy - t.extent / 2, t.cy + t.extent / 2)
        for t in scene.things
    ]
    for i, (left, right, top, bottom) in enumerate(boxes):
        assert min(left, top) >= 1 and max(right, bottom) <= 95
        for other in boxes[:i]:
            gap = max(left - other[1], other[0] - right, top - other[3], other[2] - bottom)
            assert gap >= scenes.GAP


@settings(deadline=None, max_examples=25)
@given(drawn)
def test_the_pixels_show_the_colours(scene):
    """Read back from the bytes alone: the middle of every thing is nearest to its own colour."""
    names = list(scenes.COLOUR_RGB)
    palette = np.array([scenes.COLOUR_RGB[name] for name in names])
    for thing in scene.things:
        pixel = scene.image[int(thing.cy), int(thing.cx)].astype(int)
        assert names[((palette - pixel) ** 2).sum(-1).argmin()] == thing.colour
    covered = scene.coverage.max(0) > 0
    assert scene.image[~covered].min() >= scenes.PALE[0] - scenes.TILT


@settings(deadline=None, max_examples=25)
@given(drawn)
def test_sizes_do_not_overlap_and_areas_fit(scene):
    share = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}
    limits = {"small": (7, 9), "medium": (13, 17), "large": (22, 28)}
    for thing, cover in zip(scene.things, scene.coverage, strict=True):
        low, high = limits[thing.size]
        assert low <= thing.extent <= high
        assert cover.sum() == pytest.approx(share[thing.shape] * thing.extent**2, rel=0.12)


@settings(deadline=None, max_examples=25)
@given(drawn)
def test_patch_labels_name_the_thing_that_is_there(scene):
    owner, centre = facts.owners(scene, 8)
    assert centre.sum() == len(scene.things)  # no two things share a patch with their centres
    for i, thing in enumerate(scene.things):
        assert owner[int(thing.cy // 8), int(thing.cx // 8)] == 1 + i
    for row, column in np.argwhere(owner == 0):
        patch = scene.coverage[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        assert patch.mean((1, 2)).max() <= facts.TRACE
    classes, figures = facts.labels(scene.things)
    assert not classes[0].any() and not figures[len(scene.things) + 1 :].any()
    bits = facts.bits(scene.things)
    assert bits.shape == (facts.BITS,) and bits[:6].sum() == len(scene.things)


def test_every_test_question_is_of_its_kind_and_there_are_5000():
    rows = [row for _, asked in dataset.rows(scenes.TEST) for row in asked]
    assert len(rows) == 5000
    for kind in questions.KINDS:
        mine = [(q, a) for k, q, a in rows if k == kind]
        assert len(mine) == 1000 and all(questions.kind(q) == kind for q, _ in mine)
