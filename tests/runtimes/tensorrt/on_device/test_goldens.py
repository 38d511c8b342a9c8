"""When outputs are the same, and when not."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.runtimes.tensorrt.on_device import goldens
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan

REF = np.array([1.0, -2.0, 2.0], np.float32)
INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    "wanted, found, db",
    [
        (REF, REF, 200.0),
        (REF, REF * 1.1, 20.0),
        (REF, -REF, 10 * np.log10(0.25)),
        (REF, REF * NAN, -200.0),
        (REF, [1.0, INF, 2.0], -200.0),
        (REF * 0, REF, -200.0),
        (REF * 0, REF * 0, 200.0),
        ([1.0, -INF], [1.0, -INF], 200.0),
        ([1.0, -INF], [1.0, -6e4], -200.0),
        ([1.0, NAN], [1.0, 5.0], 200.0),
    ],
)
def test_signal_to_noise(wanted, found, db):
    wanted, found = np.array(wanted, np.float32), np.array(found, np.float32)
    assert goldens.signal_to_noise(wanted, found) == pytest.approx(db, abs=1e-3)


@pytest.fixture
def part(bundle):
    return read_plan(bundle).parts[0]


CASES = {
    "alike": (REF, REF, True),
    "far": (REF, REF * 2, False),
    "not finite": (REF, REF * NAN, False),
    "another shape": (REF, REF[:2], False),
    "missing": (REF, None, False),
    "places": (np.array([1, 2]), np.array([1, 2]), True),
    "a place off by one": (np.array([1, 2]), np.array([1, 3]), False),
    "codes of a cache": (np.full(10**6, 100, np.int8), None, True),
}


@pytest.mark.parametrize("case", CASES)
def test_an_output(case, part):
    wanted, got, ok = CASES[case]
    if case == "codes of a cache":  # one of a million is off by one
        got = wanted.copy()
        got[0] += 1
    [row] = goldens.check_part(part, {} if got is None else {"y": got}, {"y": wanted})
    assert row.ok is ok and ("ok" if ok else "DIFFERS") in str(row)


KEPT = np.arange(0, 64, 2)
FAR = {"image_features": -REF, "key_0": -REF, "key_3": -REF, "logits": -REF}


def swapped(count):
    """Other tokens in place of the first `count`."""
    return np.sort(np.concatenate([KEPT[:count] + 1, KEPT[count:]]))


def judged(part, choice, kept, **others):
    wanted = {choice: KEPT, **dict.fromkeys(FAR, REF)}
    rows = goldens.check_part(part, {choice: kept, **FAR, **others}, wanted)
    return {row.name: row for row in rows}


@pytest.mark.parametrize("count", [1, 2, 10])
def test_other_tokens_that_are_as_good_are_noted_and_what_lies_behind_is_not_compared(count, part):
    rows = judged(part, "image_index", swapped(count))
    assert all(row.ok and row.note for row in rows.values())
    assert f"in {count} of 32" in str(rows["image_index"]) and "not compared" in str(rows["logits"])


def test_in_prefill_caches_in_front_of_the_choice_are_compared(part):
    rows = judged(part, "image_index_2", swapped(1))
    assert [name for name, row in rows.items() if not row.ok] == ["image_features", "key_0"][1:]


WRONG = {
    "too many": swapped(12),
    "all of them": KEPT + 1,
    "out of order": KEPT[::-1],
    "one twice": np.concatenate([KEPT[:1], KEPT[:-1]]),
    "fewer": KEPT[:-1],
    "no places": swapped(1).astype(np.float32),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_choice_that_is_another_is_wrong(how, part):
    rows = judged(part, "image_index", WRONG[how])
    assert not rows["image_index"].ok and not rows["logits"].ok


@pytest.mark.parametrize("value", [REF[:2], REF * NAN, None])
def test_what_lies_behind_a_choice_is_whole_all_the_same(value, part):
    rows = judged(part, "image_index", swapped(1), logits=value)
    assert not rows["logits"].ok and rows["key_0"].ok


def test_of_two_tokens_one_may_be_another(part):
    two = np.array([3, 7])
    assert goldens.alike_choice(np.array([3, 8]), two)
    assert not goldens.alike_choice(np.array([4, 8]), two)
