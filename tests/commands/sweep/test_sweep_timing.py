"""Turn about: on a machine whose speed wanders, the ratio stays what it is."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.commands.sweep_timing import (
    TURN,
    first_token,
    timed_in_turns,
    turn_about,
    turn_medians,
)
from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.stats import middle


class Machine:
    """Its requests take what they are told, times a factor that grows with every request."""

    def __init__(self, growth: float = 0.0) -> None:
        self.growth, self.calls = growth, []

    def model(self, name: str, ms: float):
        def ask(i: int) -> dict[str, list[float]]:
            self.calls.append((name, i))
            now = ms / 1e3 * (1 + self.growth * len(self.calls))
            return {"preprocess": [now / 4], "vision": [now / 4], "connector": [now / 4],
                    "prefill": [now / 4], "decode": [0.001], "end_to_end": [2 * now]}  # fmt: skip

        return ask


def test_a_machine_that_slows_down_does_not_change_the_ratio():
    """Four times slower at the end: timed one after the other, the faster model would lose."""
    machine = Machine(growth=0.05)
    cell, base, ratio = turn_about(
        machine.model("cell", 5.0), machine.model("base", 10.0), n=50, warmup=2
    )
    assert ratio.median == pytest.approx(0.5, rel=0.02)
    assert ratio.low <= 0.5 <= ratio.high and ratio.high - ratio.low < 0.15
    assert cell.ttft_ms / base.ttft_ms == pytest.approx(0.5, rel=0.1)
    apart = Machine(growth=0.05)
    alone = [turn_about(apart.model("m", ms), None, n=50, warmup=2)[0] for ms in (10.0, 5.0)]
    assert alone[1].ttft_ms > alone[0].ttft_ms


def test_turns_alternate_and_their_first_request_is_not_timed():
    machine = Machine()
    n, warmup = 2 * TURN, 1
    cell, base, _ = turn_about(machine.model("a", 1.0), machine.model("b", 1.0), n=n, warmup=warmup)
    turn = list(range(TURN))
    later = [TURN + i for i in turn]
    expected = [("a", 0), ("b", 0)]  # warm-up
    for name, places in (("b", turn), ("a", turn), ("a", later), ("b", later)):
        expected += [(name, places[0]), *((name, i) for i in places)]
    assert machine.calls == expected
    assert (cell.n, base.n, cell.warmup) == (n, n, warmup)
    assert cell.stages["vision"].n == n


@pytest.mark.parametrize("n", [1, TURN - 1, TURN + 1, 3 * TURN])
def test_any_count_is_timed_exactly_and_told_as_it_goes(n):
    machine, seen = Machine(), []
    cell, base, ratio = turn_about(
        machine.model("a", 3.0), machine.model("b", 2.0), n=n, warmup=2,
        advance=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert cell.n == base.n == n and ratio.median == pytest.approx(1.5)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert seen[-1] == (2 * n + 4, 2 * n + 4) and {t for _, t in seen} == {2 * n + 4}


def test_without_another_model_there_is_no_ratio():
    profile, base, ratio = turn_about(Machine().model("a", 4.0), None, n=3, warmup=0)
    assert profile.ttft_ms == pytest.approx(4.0) and base is None and ratio is None


def test_no_request_at_all_is_refused():
    with pytest.raises(UsageFault, match="EV410"):
        turn_about(Machine().model("a", 1.0), None, n=0, warmup=0)


def test_the_first_token_is_what_the_profiler_says():
    times = {"preprocess": [1.0], "vision": [2.0], "prefill": [4.0], "decode": [8.0]}
    assert first_token(times) == 7.0


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60))
def test_the_middle_is_numpys_median_inside_its_interval(values):
    found = middle(values)
    assert found.median == pytest.approx(float(np.median(values)))
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


@pytest.mark.parametrize("n", [6, 7, 8, 9, 10, 20, 50, 100, 200])
def test_the_interval_covers_the_true_median_in_95_of_100(n):
    """Counted, not simulated: the r-th value from either end misses it with a binomial tail."""
    found = middle(range(n))
    rank = int(found.low)
    assert int(found.high) == n - 1 - rank
    below = sum(math.comb(n, k) for k in range(rank + 1))
    assert Fraction(2 * below, 2**n) <= Fraction(5, 100)
    assert Fraction(2 * (below + math.comb(n, rank + 1)), 2**n) > Fraction(5, 100)


def test_a_turn_without_a_timed_pair_counts_for_none():
    pairs = [1.0, None, 3.0, None, 2.0, *[None] * TURN, 5.0]
    assert turn_medians(pairs) == [2.0, 5.0]
    assert turn_medians([None]) == turn_medians([]) == []


def test_the_ratio_of_a_pair_is_made_of_its_turns():
    machine = Machine(growth=0.05)
    sides = [machine.model("a", 5.0), machine.model("b", 10.0)]
    seen = timed_in_turns(sides, n=17, warmup=1)
    again = Machine(growth=0.05)
    _, _, ratio = turn_about(again.model("a", 5.0), again.model("b", 10.0), n=17, warmup=1)
    pairs = [first_token(a) / first_token(b) for a, b in zip(*seen, strict=True)]
    assert [len(side) for side in seen] == [17, 17]
    assert middle(turn_medians(pairs)) == ratio
