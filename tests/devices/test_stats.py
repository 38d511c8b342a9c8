"""Percentiles by hand, against NumPy, and by their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.devices.stats import HOW, Summary, check_how, percentile, summarise

seconds = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=200)


def test_a_summary_by_hand():
    summary = summarise([0.004, 0.001, 0.002, 0.003, 0.005], "measured-host")
    assert summary == Summary(
        p50_ms=3.0,
        p90_ms=pytest.approx(4.6),
        p99_ms=pytest.approx(4.96),
        min_ms=1.0,
        mean_ms=3.0,
        n=5,
        how="measured-host",
    )
    assert list(summary.as_json()) == [
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "min_ms",
        "mean_ms",
        "n",
        "how",
    ]


def test_one_sample_is_every_percentile():
    summary = summarise([0.25], "predicted")
    figures = (summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.min_ms, summary.mean_ms)
    assert figures == (250.0,) * 5


def test_rounding_never_puts_the_mean_below_the_minimum():
    equal = [0.3915906845956697] * 3  # their correctly rounded sum, divided by 3, is smaller
    assert sum(equal) / 3 < equal[0]
    summary = summarise(equal, "measured-host")
    assert summary.mean_ms == summary.min_ms


def test_a_small_n_is_noted():
    assert summarise([1.0], "predicted").note == "p99 of 1 sample is close to the maximum"
    assert "99 samples" in summarise([1.0] * 99, "predicted").note
    assert summarise([1.0] * 100, "predicted").note is None


@pytest.mark.parametrize("bad", [[], [-1e-9], [math.nan], [math.inf]])
def test_impossible_times_are_refused(bad):
    with pytest.raises(ValueError, match=r"no samples|negative or not finite"):
        summarise(bad, "measured-host")


@pytest.mark.parametrize(
    "how",
    ["measured-device", "measured-host", "estimated-vela", "estimated-trt-rtx_1.7", "predicted"],
)
def test_known_labels_pass(how):
    assert check_how(how) == how and summarise([1.0], how).how == how


@pytest.mark.parametrize(
    "how",
    [
        "",
        "measured",
        "estimated",
        "estimated-",
        "estimated-<tool>",
        "Predicted",
        "predicted ",
        "predicted\n",
        None,
    ],
)
def test_other_labels_are_refused_with_the_list(how):
    with pytest.raises(ValueError, match=HOW[2]):
        check_how(how)
    with pytest.raises(ValueError):
        Summary(1, 1, 1, 1, 1, 1, how)


@given(seconds)
def test_figures_are_ordered(values):
    s = summarise(values, "measured-host")
    assert s.min_ms <= s.p50_ms <= s.p90_ms <= s.p99_ms <= max(values) * 1e3
    assert s.min_ms <= s.mean_ms and s.n == len(values)


@given(seconds, st.randoms(use_true_random=False))
def test_order_of_samples_does_not_matter(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert summarise(shuffled, "measured-host") == summarise(values, "measured-host")


@given(seconds, st.floats(0, 1))
def test_the_interpolation_is_numpys(values, q):
    expected = np.quantile(values, q, method="linear")
    assert percentile(sorted(values), q) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(seconds)
def test_scaling_the_times_scales_the_figures(values):
    once, twice = summarise(values, "predicted"), summarise([2 * v for v in values], "predicted")
    assert (twice.p50_ms, twice.p99_ms) == (2 * once.p50_ms, 2 * once.p99_ms)
