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
