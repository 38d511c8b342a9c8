"""Where a selector chooses, tokens are compared with themselves and the choice is told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.reference import Reference, observe
from edgevlm.passes.tokens.keep_tokens import KeepTokens

RNG = np.random.default_rng(0)
GRID = RNG.normal(size=(12, 4)).astype(np.float32)  # what the connector makes of each of 12 places


class Chooser:
    """A connector that keeps the places it is told to, one list a probe."""

    def __init__(self, *places, table=GRID):
        self.places, self.table = places, table

    def call(self, role, feeds):
        places = np.array(self.places[int(feeds["probe"])])
        return {"image_embeds": self.table[None, places], "image_index": places}


def compare(before, after, probes=1):
    reference = Reference([{"connector": {"probe": np.array(i)}} for i in range(probes)], [], [])
    return compare_parts(before, after, reference, ["vision", "connector"])


def test_the_same_choice_overlaps_whole():
    drift = compare(Chooser([1, 4, 7]), Chooser([1, 4, 7]))
    assert set(drift) == {"connector"}
    assert drift["connector"].overlap == 1 and drift["connector"].sqnr_db == 200


def test_one_token_chosen_otherwise_is_no_drift_of_the_others():
    drift = compare(Chooser([1, 4, 7]), Chooser([1, 5, 7]))["connector"]
    assert drift.sqnr_db == 200 and drift.where == "image_embeds"
    assert drift.overlap == pytest.approx(2 / 4)


def test_drift_is_measured_on_the_tokens_both_chose():
    other = GRID.copy()
    other[4] *= 1.01
    for theirs in ([1, 4, 7], [0, 4, 9]):  # at another row of the tensor, and still found
        drift = compare(Chooser([1, 4, 7]), Chooser(theirs, table=other))["connector"]
        shared = sorted({1, 4, 7} & set(theirs))
        error = np.square(GRID[shared] - other[shared]).sum()
        want = 10 * math.log10(np.square(GRID[shared]).sum() / error)
        assert drift.sqnr_db == pytest.approx(want, abs=1e-3)
        assert drift.overlap == pytest.approx(len(shared) / len({1, 4, 7, *theirs}))


def test_embeddings_that_are_swapped_are_no_match():
    """The index says 1, 4 and the rows are those of 4, 1: rounding cannot do that."""

    class Swapped(Chooser):
        def call(self, role, feeds):
            out = super().call(role, feeds)
            return out | {"image_embeds": out["image_embeds"][:, ::-1]}

    assert compare(Chooser([1, 4]), Swapped([1, 4]))["connector"].sqnr_db < 10


def test_no_token_in_common_is_not_agreement():
    drift = compare(Chooser([1, 4]), Chooser([2, 5]))["connector"]
    assert drift.sqnr_db == -math.inf and drift.overlap == 0


def test_the_smallest_overlap_counts_though_another_probe_has_the_worst_output():
    table = GRID.copy()
    table[0] *= 1.5
    before, after = Chooser([0, 1, 2], [4, 5, 6]), Chooser([0, 1, 2], [4, 5, 9], table=table)
    drift = compare(before, after, probes=2)["connector"]
    assert drift.sqnr_db < 20 and drift.overlap == pytest.approx(2 / 4)


def test_parts_that_choose_nothing_have_no_overlap(micro_model, micro_probes):
    class Plain:
        def call(self, role, feeds):
            return {"image_embeds": GRID}

    assert compare(Plain(), Plain())["connector"].overlap is None


@pytest.mark.parametrize(
    "places", [[0, 2, 2], [0, 2, 1], [-1, 0, 1], [0, 1, 9], [0, 1], [0, 1, 2, 3], [2, 1, 0]]
)
def test_a_choice_that_breaks_the_promise_stops_the_compile(micro_model, micro_probes, places):
    """Exactly K, unique, ascending, in range: on every probe, after every pass."""
    model = KeepTokens(keep=3, method="stride")(micro_model).model

    class Parts:
        def call(self, role, feeds):
            rows = np.zeros((1, 9, 8), np.float32)
            if role == "connector":
                return {"image_embeds": rows[:, : len(places)], "image_index": np.array(places)}
            return {"image_features": rows}

    with pytest.raises(JobFault) as caught:
        observe(model, micro_probes, Parts())
    assert caught.value.code == "EV208" and str(places) in caught.value.what
