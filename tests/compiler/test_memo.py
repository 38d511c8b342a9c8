"""What is kept is made once, within its bytes, and the seconds of making it are counted once."""

from __future__ import annotations

import time

import pytest

from edgevlm.compiler.memo import Memo


def test_it_is_made_once():
    memo, made = Memo(limit=100), []
    for _ in range(3):
        assert memo.kept("a", lambda: made.append(1) or "x") == "x"
    assert (len(made), memo.made, memo.found) == (1, 1, 2)


def test_without_a_limit_nothing_is_kept():
    memo = Memo()
    assert [memo.kept("a", lambda i=i: i) for i in range(3)] == [0, 1, 2]
    assert (memo.made, memo.found) == (3, 0)


def test_what_would_not_fit_is_made_again():
    memo = Memo(limit=10)
    for key, size in (("a", 6), ("b", 6), ("a", 6), ("b", 6)):
        assert memo.kept(key, lambda key=key: key, lambda _, size=size: size) == key
    assert (memo.made, memo.found, memo.held) == (3, 1, 6)


def test_seconds_of_what_is_made_within_count_once():
    memo = Memo(limit=1)

    def inner() -> int:
        time.sleep(0.02)
        return 1

    start = time.perf_counter()
    memo.kept("outer", lambda: memo.kept("inner", inner))
    assert 0.02 <= memo.seconds <= time.perf_counter() - start and memo.made == 2


def test_what_fails_is_not_kept():
    memo = Memo(limit=1)
    with pytest.raises(ZeroDivisionError):
        memo.kept("a", lambda: 1 // 0)
    assert memo.kept("a", lambda: 7) == 7 and memo.made == 1


def test_what_hangs_on_less_goes_into_the_memo_that_several_share():
    shared = Memo(limit=100)
    one, two = (Memo(limit=100, base=shared) for _ in range(2))
    assert one.wider.kept("key", lambda: 1) == two.wider.kept("key", lambda: 2) == 1
    assert one.kept("key", lambda: 3) == 3 and two.kept("key", lambda: 4) == 4
    assert (shared.made, shared.found, one.made, one.found) == (1, 1, 1, 0)
    assert shared.wider is shared
