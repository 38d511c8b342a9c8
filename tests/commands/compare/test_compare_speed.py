"""Ratios of times that are known: what is claimed, and that nothing is from too few turns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgevlm.commands.compare_speed import LEAST, Request, accepted, compare_speed, requests_of
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import UsageFault
from edgevlm.models.processing.image import load_image


@pytest.fixture
def asked(micro_bundle) -> list[Request]:
    bundle = open_bundle(micro_bundle)
    return requests_of(bundle, bundle, None, None)


def answerer(ms: float, *, tokens: int = 3, wobble: float = 0.0):
    """Stages of ms, 2 ms, ...; the times of requests differ by `wobble`."""
    calls = itertools.count()

    def once(rgb: np.ndarray, question: str) -> dict[str, list[float]]:
        now = ms / 1e3 * (1 + wobble * (next(calls) % 7))
        return {"preprocess": [now], "vision": [2 * now], "connector": [now], "prefill": [4 * now],
                "decode": [now] * (tokens - 1), "end_to_end": [20 * now]}  # fmt: skip

    return once


def looker(ms: float):
    return lambda rgb, question: {
        "preprocess": [ms / 1e3], "vision": [ms / 1e3], "end_to_end": [2 * ms / 1e3]
    }  # fmt: skip


def test_goldens_of_both_are_asked_once(micro_bundle, micro_other):
    a, b = open_bundle(micro_bundle), open_bundle(micro_other)
    own = {(a.manifest.files[g.image].sha256, g.question) for g in a.manifest.goldens}
    assert len(requests_of(a, b, None, None)) == len(own)
    picture = a.folder / a.manifest.goldens[0].image
    assert requests_of(a, b, picture, "what?") == [Request(picture, "what?")]
    assert requests_of(a, b, picture, None) == [Request(picture, "")]


@pytest.mark.parametrize(("a", "b", "verdict"), [(4.0, 3.0, "faster"), (3.0, 4.0, "slower")])
def test_the_ratio_is_of_b_to_a_and_its_verdict_is_bs(asked, a, b, verdict):
    found = compare_speed((answerer(a), answerer(b)), asked, n=40, warmup=1)
    assert list(found["stages"]) == [
        "first_token", "preprocess", "vision", "connector", "prefill", "decode", "end_to_end"
    ]  # fmt: skip
    for stage in found["stages"].values():
        assert (stage["ratio"], stage["verdict"], stage["n"]) == (pytest.approx(b / a), verdict, 40)
        assert stage["how"] == "measured-host"
    first = found["stages"]["first_token"]
    assert (first["a_ms"], first["b_ms"]) == (pytest.approx(8 * a), pytest.approx(8 * b))
    assert found["answer_tokens"] == {"a": 3, "b": 3} and found["requests"] == len(asked)


def test_no_difference_is_claimed_where_there_is_none(asked):
    sides = answerer(3.0, wobble=0.05), answerer(3.0, wobble=0.05)
    for stage in compare_speed(sides, asked, n=100, warmup=0)["stages"].values():
        assert stage["verdict"] == "none" and stage["low"] <= 1 <= stage["high"]
        assert (1 + stage["told_from"]) ** 2 == pytest.approx(stage["high"] / stage["low"])


@pytest.mark.parametrize("n", [1, 5, LEAST - 1])
def test_too_few_turns_claim_nothing_however_far_apart(asked, n):
    found = compare_speed((answerer(9.0), answerer(1.0)), asked, n=n, warmup=0)
    for stage in found["stages"].values():
        assert (stage["low"], stage["high"], stage["verdict"]) == (None, None, "none")
        assert stage["ratio"] == pytest.approx(1 / 9)


def test_the_least_number_is_enough(asked):
    found = compare_speed((answerer(9.0), answerer(1.0)), asked, n=LEAST, warmup=0)
    assert {stage["verdict"] for stage in found["stages"].values()} == {"faster"}


def test_decode_is_told_by_the_token_and_longer_answers_are_told(asked):
    found = compare_speed((answerer(3.0), answerer(3.0, tokens=9)), asked, n=30, warmup=0)
    assert found["stages"]["decode"]["ratio"] == pytest.approx(1)
    assert found["answer_tokens"] == {"a": 3, "b": 9}
    single = compare_speed((answerer(3.0), answerer(3.0, tokens=1)), asked, n=30, warmup=0)
    assert "decode" not in single["stages"] and "first_token" in single["stages"]


def test_of_a_bundle_without_words_a_picture_is_the_whole(asked):
    found = compare_speed((looker(2.0), looker(1.0)), asked, n=30, warmup=0)
    assert list(found["stages"]) == ["preprocess", "vision", "end_to_end"]
    assert found["answer_tokens"] is None


def test_requests_that_one_side_refuses_are_left_out(asked):
    def picky(rgb: np.ndarray, question: str) -> dict[str, list[float]]:
        if not np.array_equal(rgb, first):
            raise UsageFault("EV120", "a prompt", "too long", "shorten it")
        return {}

    first = load_image(asked[0].image)
    kept = accepted(asked, (answerer(1.0), picky))
    assert kept and len(kept) < len(asked)
    assert all(np.array_equal(load_image(r.image), first) for r in kept)


def test_no_request_at_all_says_what_kept_the_last(asked):
    def refuses(rgb: np.ndarray, question: str) -> dict[str, list[float]]:
        raise UsageFault("EV120", "a prompt", "too long", "shorten it")

    with pytest.raises(UsageFault, match=r"EV411.*too long"):
        accepted(asked, (answerer(1.0), refuses))
    with pytest.raises(UsageFault, match=r"EV411.*neither carries goldens"):
        accepted([], (answerer(1.0), refuses))
