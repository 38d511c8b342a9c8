"""A table of times: what it says between its entries, what it affords, and how it is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgevlm.devices import latency_table
from edgevlm.devices.latency_table import LatencyTable, host_key, kept_table, table_path

HEADS, UNITS = [100, 250, 400], [0, 80, 160, 640]


def table(ms, heads=HEADS, units=UNITS):
    return LatencyTable(heads=heads, units=units, ms=ms, n=3, how="measured-host")


def plane(heads, units):
    return 1 + 0.01 * heads + 0.002 * units + 1e-5 * heads * units


FLAT = table([[plane(h, u) for u in UNITS] for h in HEADS])


@given(st.floats(100, 400), st.floats(0, 640))
def test_it_is_bilinear_between_entries(heads, units):
    assert FLAT.predict(heads, units) == pytest.approx(plane(heads, units), rel=1e-9)


def test_outside_it_is_flat_and_the_ends_have_names():
    assert FLAT.predict(1, 900) == pytest.approx(plane(100, 640))
    assert FLAT.whole_ms == pytest.approx(plane(400, 640))
    assert FLAT.least_ms == pytest.approx(plane(100, 0))


TIMES = st.lists(
    st.lists(st.floats(0.01, 100), min_size=4, max_size=4), min_size=3, max_size=3
)  # fmt: skip


@given(TIMES, st.integers(50, 450), st.floats(0.005, 120), st.floats(0.005, 120))
def test_what_it_affords_is_the_most_within_the_time_and_no_less_for_more(ms, heads, a, b):
    noisy = table(ms)
    short, long = sorted((a, b))
    fewer, more = noisy.affords(heads, short), noisy.affords(heads, long)
    for units, time in ((fewer, short), (more, long)):
        if units is None:
            assert noisy.predict(heads, 0) > time
            continue
        assert noisy.predict(heads, units) <= time * (1 + 1e-9)
        assert units == UNITS[-1] or noisy.predict(heads, units + 1) >= time * (1 - 1e-9)
    assert fewer is None or (more is not None and fewer <= more)


@given(TIMES)
def test_more_work_never_takes_less_time(ms):
    found = np.array([[table(ms).predict(h, u) for u in UNITS] for h in HEADS])
    assert (np.diff(found, axis=0) >= -1e-9).all() and (np.diff(found, axis=1) >= -1e-9).all()
    assert found.min() >= np.min(ms) - 1e-9 and found.max() <= np.max(ms) + 1e-9


def test_times_that_rise_are_taken_as_they_are():
    ms = [[1.0, 2, 4, 8], [1.5, 2, 5, 9], [3.0, 3, 6, 10]]
    assert [[table(ms).predict(h, u) for u in UNITS] for h in HEADS] == ms


@pytest.mark.parametrize(
    "wrong",
    [
        {"ms": [[1.0] * 4] * 2},
        {"ms": [[1.0] * 3] * 3},
        {"ms": [[1.0, 1, 1, 0]] * 3},
        {"ms": [[1.0, 1, 1, float("nan")]] * 3},
        {"heads": [100, 100, 400]},
        {"units": [-1, 0, 1, 2]},
        {"how": "guessed"},
        {"n": 0},
        {"more": 1},
    ],
)
def test_what_is_no_table(wrong):
    good = {"heads": HEADS, "units": UNITS, "ms": [[1.0] * 4] * 3, "n": 1, "how": "measured-host"}
    LatencyTable(**good)
    with pytest.raises((ValidationError, ValueError)):
        LatencyTable(**good | wrong)


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """kept(key): from the cache, or measured; the number of measurements so far, and the table."""
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    calls = []

    def measure():
        calls.append(1)
        return FLAT

    def kept(key):
        found, cached = kept_table(key, measure)
        assert found == FLAT
        return len(calls), cached

    return kept


def test_it_is_measured_once_for_a_key(counted):
    key = {"part": "a", "host": host_key()}
    assert [counted(key), counted(key)] == [(1, False), (1, True)]
    assert counted({**key, "part": "b"}) == (2, False)
    assert counted({**key, "host": host_key() | {"cores": 99}}) == (3, False)
    assert counted(key) == (3, True)


@pytest.mark.parametrize(
    "spoilt", [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"heads": [1]}', b"x" * (2**20 + 1)]
)
def test_what_cannot_be_read_is_measured_again_and_mended(counted, spoilt):
    key = {"part": "a"}
    counted(key)
    table_path(key).write_bytes(spoilt)
    assert [counted(key), counted(key)] == [(2, False), (2, True)]


def test_without_a_cache_it_is_measured(counted, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert [counted({}), counted({})] == [(1, False), (2, False)]


def test_a_cache_that_is_full_costs_nothing_but_time(counted, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(latency_table, "atomic_file", full)
    assert [counted({}), counted({})] == [(1, False), (2, False)]
