"""Probes for a model that has none: the same ones for ever, and worth looking at."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.models.probes import MAX_PROBES, QUESTIONS, drawn_probes, folder_probes


def test_drawn_probes_are_the_same_in_every_version():
    """They end as goldens in bundles, so another picture would be another digest."""
    images = b"".join(probe.image.tobytes() for probe in drawn_probes())
    assert hashlib.sha256(images).hexdigest()[:16] == DRAWN


def test_drawn_probes_differ_and_show_something():
    probes = drawn_probes(6)
    assert len({probe.image.tobytes() for probe in probes}) == 6
    for i, probe in enumerate(probes):
        assert probe.image.shape == (96, 96, 3) and probe.image.dtype == np.uint8
        assert (
            probe.image.std() > 20 and probe.question == QUESTIONS[i % 4] and probe.answer is None
        )
    assert drawn_probes(2)[1].image.tobytes() == probes[1].image.tobytes()
    assert drawn_probes(1, seed=1)[0].image.tobytes() != probes[0].image.tobytes()


def test_a_folder_gives_its_pictures_in_name_order(tmp_path):
    for i, name in enumerate(("b.png", "a.JPG", "d.webp", "c.jpeg")):
        kind = {"JPG": "JPEG", "jpeg": "JPEG"}.get(name.rpartition(".")[2], name[2:].upper())
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(tmp_path / name, kind)
    (tmp_path / "readme.txt").touch()
    reds = [int(probe.image[0, 0, 0]) for probe in folder_probes(tmp_path, "what?")]
    assert np.allclose(reds, [60, 0, 180, 120], atol=8)
    assert {probe.question for probe in folder_probes(tmp_path, "what?")} == {"what?"}


def test_a_large_folder_is_cut(tmp_path):
    for i in range(MAX_PROBES + 3):
        Image.new("RGB", (2, 2), (i, 0, 0)).save(tmp_path / f"{i:03d}.png")
    probes = folder_probes(tmp_path)
    assert len(probes) == MAX_PROBES and int(probes[-1].image[0, 0, 0]) == MAX_PROBES - 1


def test_a_folder_without_pictures_is_a_wrong_call(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageFault, match="EV134"):
        folder_probes(tmp_path)


def test_a_picture_that_is_broken_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(EdgeError, match=r"EV111 .*a\.png"):
        folder_probes(tmp_path)


#: sha256 of the four default pictures
DRAWN = "f9f8c4d17c77949d"
