"""The generated data set: whole, alike each time, its three splits apart, and no folder read."""

from collections import Counter

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.models.datasets import load_dataset

KINDS = ("colour", "comparison", "count", "existence", "position")


@pytest.mark.parametrize(
    ("split", "pictures"), [("train", 500), ("validation", 200), ("test", 500)]
)
def test_each_split_is_whole(split, pictures):
    data = load_dataset("scenes", split)
    assert (data.name, data.split, data.licence) == ("scenes", split, "Apache-2.0")
    assert data.kinds == KINDS
    assert Counter(row.kind for row in data.rows) == dict.fromkeys(KINDS, 2 * pictures)
    assert len({row.image.tobytes() for row in data.rows}) == pictures
    asked = {(row.image.tobytes(), row.question) for row in data.rows}
    assert len(asked) == len(data.rows)  # nothing is asked twice


def test_alike_each_time_and_apart_from_the_other_splits():
    first, second = (load_dataset("scenes", "test", limit=100).rows for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.image, b.image)
        assert (a.question, a.answer, a.kind) == (b.question, b.answer, b.kind)
    seen = {row.image.tobytes() for row in load_dataset("scenes", "train").rows}
    assert not seen & {row.image.tobytes() for row in first}


def test_it_reads_no_folder_and_has_three_splits(tmp_path):
    with pytest.raises(UsageFault, match="reads no folder") as caught:
        load_dataset("scenes", "test", data_dir=tmp_path)
    assert caught.value.code == "EV132"
    with pytest.raises(UsageFault) as caught:
        load_dataset("scenes", "dev")
    assert caught.value.code == "EV132" and "train or validation or test" in caught.value.fix
