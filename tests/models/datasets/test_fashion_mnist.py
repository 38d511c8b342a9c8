"""Fashion-MNIST read from its four files: sound, missing and malformed."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.models.datasets.fashion_mnist import CLASSES, FOLDER, INSTALL, arrays, load

COUNTS = {"train": 60_000, "t10k": 10_000}
IMAGES, LABELS = "{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz"


def packed(array):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes(), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As many pictures as there are: the first two pixels of each count it, the rest is black."""
    folder = tmp_path_factory.mktemp("fashion")
    for name, count in COUNTS.items():
        pictures = np.zeros((count, 28, 28), np.uint8)
        pictures[:, 0, 0], pictures[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / IMAGES.format(name)).write_bytes(packed(pictures))
        (folder / LABELS.format(name)).write_bytes(packed(labels))
    return folder


def numbers(pictures):
    return pictures[:, 0, 0].astype(int) * 256 + pictures[:, 0, 1]


def test_the_splits_are_all_of_the_files_and_share_nothing(folder):
    parts = {split: numbers(arrays(split, folder)[0]) for split in ("train", "validation", "test")}
    assert np.array_equal(parts["train"], np.arange(55_000))
    assert np.array_equal(parts["validation"], np.arange(55_000, 60_000))
    assert np.array_equal(parts["test"], np.arange(10_000))


def test_rows_are_pictures_in_three_channels_and_no_question(folder):
    data = load("validation", folder)
    assert (len(data.rows), data.licence, data.kinds) == (5000, "MIT", CLASSES)
    row = data.rows[3]
    assert row.image.shape == (28, 28, 3) and row.image.dtype == np.uint8
    assert (row.image == row.image[..., :1]).all()
    assert (row.question, row.answer, row.kind) == ("", CLASSES[3], CLASSES[3])


def changed(folder, tmp_path, file, data):
    """The folder with one file put in the place of its own."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / file).unlink()
    if data is not None:
        (tmp_path / file).write_bytes(data)
    return tmp_path


SOUND = np.zeros(10_000, np.uint8)


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (None, "EV131", "is not there"),
        (b"", "EV133", "not an IDX file"),
        (b"no gzip", "EV133", "cannot be unpacked"),
        (packed(SOUND)[:-20], "EV133", "cannot be unpacked"),
        (packed(SOUND[:-1]), "EV133", "not an IDX file"),
        (packed(SOUND.reshape(100, 100)), "EV133", "not an IDX file"),
        (gzip.compress(gzip.decompress(packed(SOUND)) + bytes(1)), "EV133", "not an IDX file"),
        (gzip.compress(gzip.decompress(packed(SOUND)) + bytes(2**26)), "EV133", "not an IDX file"),
        (packed(SOUND + 10), "EV133", "a label is 10"),
    ],
    ids=range(9),
)
def test_what_is_wrong_is_told(folder, tmp_path, data, code, why):
    broken = changed(folder, tmp_path, LABELS.format("t10k"), data)
    with pytest.raises(JobFault) as caught:
        arrays("test", broken)
    assert caught.value.code == code and why in caught.value.why
    assert caught.value.fix.startswith(INSTALL)


def test_an_unknown_split(folder):
    with pytest.raises(UsageFault, match="EV132"):
        arrays("dev", folder)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"Fashion-MNIST is not here: {INSTALL}")
def test_the_real_files():
    pictures, labels = arrays("test")
    assert pictures.shape == (10_000, 28, 28) and (np.bincount(labels) == 1000).all()
    assert 0.28 < pictures.mean() / 255 < 0.29
