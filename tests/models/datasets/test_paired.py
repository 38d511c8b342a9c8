"""Two models on the same rows: the test against every toss there is, the interval by its law."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgevlm.models.datasets.paired import ALPHA, Pairs, holm, unpaired
from edgevlm.models.datasets.scoring import Z_95, Score, Tally

counts = st.integers(0, 300)
tables = st.builds(Pairs, counts, counts, counts, counts)


def as_extreme(alone: int, only_a: int) -> float:
    """Share of all sequences of fair tosses that are as far from half, one by one."""
    far = abs(2 * only_a - alone)
    tosses = itertools.product((0, 1), repeat=alone)
    return sum(abs(2 * sum(toss) - alone) >= far for toss in tosses) / 2**alone


@pytest.mark.parametrize("alone", range(13))
def test_p_is_the_share_of_all_sequences_that_are_as_uneven(alone):
    for only_a in range(alone + 1):
        found = Pairs(3, only_a, alone - only_a, 5).p
        assert found == pytest.approx(as_extreme(alone, only_a), abs=1e-12)


def test_p_of_a_published_example():
    """Armitage and Berry 1994, p. 127: two media for one bacterium; 12 specimens against 2."""
    assert Pairs(20, 12, 2, 16).p == pytest.approx(0.0129, abs=5e-5)


def likeliest_share(pairs: Pairs, delta: float) -> float:
    """Share of rows that A alone has right: where the likelihood under `delta` is greatest.

    By thirds instead of by the quadratic equation that the module solves.
    """
    up, down, rest = pairs.only_b, pairs.only_a, pairs.both + pairs.neither

    def likelihood(q: float) -> float:
        shares = (q + delta, q, 1 - 2 * q - delta)
        return sum(
            k * math.log(max(s, 1e-300)) for k, s in zip((up, down, rest), shares, strict=True)
        )

    low, high = max(0.0, -delta), (1 - delta) / 2
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if likelihood(left) < likelihood(right) else (low, right)
    return (low + high) / 2


@given(st.builds(Pairs, st.integers(1, 60), st.integers(1, 30), st.integers(1, 30), counts))
def test_the_ends_of_the_interval_are_rejected_just_barely(pairs):
    for end, z in zip(pairs.interval, (Z_95, -Z_95), strict=True):
        q = likeliest_share(pairs, end)
        variance = (2 * q + end - end**2) / pairs.n  # of the difference of two paired shares
        assert (pairs.difference - end) / math.sqrt(variance) == pytest.approx(z, rel=1e-4)


@given(tables)
def test_the_interval_holds_the_point_and_turns_with_the_sides(pairs):
    assume(pairs.n)
    low, high = pairs.interval
    assert -1 <= low <= pairs.difference <= high <= 1
    turned = Pairs(pairs.both, pairs.only_b, pairs.only_a, pairs.neither)
    assert turned.interval == pytest.approx((-high, -low), abs=1e-9)
    assert turned.p == pairs.p


@given(tables)
def test_the_interval_leaves_zero_out_where_the_score_test_rejects_it(pairs):
    up, down = pairs.only_b, pairs.only_a
    assume(up + down)
    chi2 = (up - down) ** 2 / (up + down)
    assume(abs(chi2 - Z_95**2) > 1e-6)
    low, high = pairs.interval
    assert (low > 0 or high < 0) == (chi2 > Z_95**2)


def test_what_the_exact_test_calls_significant_the_interval_never_doubts():
    """So that no sentence says both at once; the other way round it may be."""
    for alone in range(400):
        for only_a in range(alone // 2 + 1):
            if Pairs(0, only_a, alone - only_a, 0).significant:
                assert (alone - 2 * only_a) ** 2 / alone > Z_95**2
                break_at = only_a
        if alone >= 6:
            low, _ = Pairs(50, break_at, alone - break_at, 50).interval
            assert low > 0


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.05, 0.1), (0.02, 0.2), (0.3, 0.3)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(shares):
    """Every outcome of 40 rows with its probability, not a sample of them."""
    n, (a, b) = 40, shares
    covered = 0.0
    for only_a in range(n + 1):
        for only_b in range(n + 1 - only_a):
            rest = n - only_a - only_b
            ways = math.comb(n, only_a) * math.comb(n - only_a, only_b)
            chance = ways * a**only_a * b**only_b * (1 - a - b) ** rest
            low, high = Pairs(rest, only_a, only_b, 0).interval
            covered += chance * (low <= b - a <= high)
    assert 0.925 <= covered <= 0.98


@given(st.integers(0, 60), st.integers(61, 500))
def test_what_could_have_been_told_is_the_least_that_is(alone, n):
    told = Pairs(n - alone, alone, 0, 0).told_from
    significant = [
        alone - 2 * k for k in range(alone // 2 + 1)
        if Pairs(n - alone, k, alone - k, 0).p < ALPHA
    ]  # fmt: skip
    assert told == (min(significant) / n if significant else None)
    assert (told is None) == (alone < 6)


def test_no_row_says_nothing():
    none = Pairs(0, 0, 0, 0)
    assert math.isnan(none.difference)
    assert (none.p, none.interval, none.told_from) == (1.0, (-1.0, 1.0), None)


def test_pairs_of_rows_are_counted_in_their_places():
    a = [True, True, False, False, True]
    b = [True, False, True, False, False]
    assert Pairs.of(a, b) == Pairs(1, 2, 1, 1)
    with pytest.raises(ValueError, match="shorter"):
        Pairs.of(a, b[:4])


def test_unpaired_is_newcombes_published_example():
    """Statist. Med. 17 (1998) 873, table II, method 10: 56 of 70 against 48 of 80."""
    assert unpaired(Score(80, 48), Score(70, 56)) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@given(st.integers(30, 300), st.integers(30, 300), st.integers(0, 6), st.integers(0, 6))
def test_pairing_tells_more_than_two_shares_do(both, neither, only_a, only_b):
    pairs = Pairs(both, only_a, only_b, neither)
    _, low, high = unpaired(Score(pairs.n, both + only_a), Score(pairs.n, both + only_b))
    assert pairs.interval[1] - pairs.interval[0] < high - low


def test_holm_of_a_worked_example():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_raises_keeps_the_order_and_is_no_stricter_than_bonferroni(found):
    raised = holm(found)
    assert list(raised) == list(found)
    for name, p in found.items():
        assert p <= raised[name] <= min(1.0, len(found) * p) + 1e-12
        assert all(raised[name] <= raised[other] for other, q in found.items() if p < q)


def test_a_tally_remembers_which_row_was_right():
    tally = Tally()
    for said, truth, kind in (("yes", "Yes.", "k"), ("no", "yes", "k"), ("red", "red", "c")):
        tally.add(said, truth, kind)
    assert tally.rows == [("k", True), ("k", False), ("c", True)]
