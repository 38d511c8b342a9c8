"""Two tokens that are all but equal, told from an artifact that is another model."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.near_ties import near_ties


class Moved:
    """A model whose logits are moved by a function of them and of the step."""

    def __init__(self, model, move):
        self.parts, self.move, self.step = ReferenceParts(model.parts), move, 0

    def call(self, role, feeds):
        out = dict(self.parts.call(role, feeds))
        if "logits" in out:
            self.step = 0 if role == "prefill" else self.step + 1
            out["logits"] = self.move(out["logits"].copy(), self.step)
        return out


def second_wins(by, at=0):
    """The second token passes the first by so much, at one step; nothing else moves."""

    def move(logits, step):
        if step == at:
            first, second = np.argsort(logits[0])[[-1, -2]]
            logits[0, second] = logits[0, first] + by
        return logits

    return move


def close(at=0, gap=1e-3):
    """The first two tokens so far apart, at one step."""

    def move(logits, step):
        if step == at:
            first, second = np.argsort(logits[0])[[-1, -2]]
            logits[0, second] = logits[0, first] - gap
        return logits

    return move


@pytest.mark.parametrize("at", [0, 1])
def test_two_that_are_all_but_equal(micro_model, micro_probes, at):
    ours = Moved(micro_model, close(at))
    theirs = Moved(micro_model, lambda x, step: second_wins(1e-3, at)(close(at)(x, step), step))
    assert near_ties(micro_model, (ours, theirs), micro_probes, {0}) == {0}


def test_what_moves_far_to_pass_a_clear_winner_is_no_tie(micro_model, micro_probes):
    """Logits of another model: they are not alike."""
    ours = ReferenceParts(micro_model.parts)
    theirs = Moved(micro_model, lambda x, step: -x)
    assert near_ties(micro_model, (ours, theirs), micro_probes, {0, 1, 2}) == set()


def test_answers_that_are_the_same_are_no_ties(micro_model, micro_probes):
    ours = ReferenceParts(micro_model.parts)
    assert near_ties(micro_model, (ours, ours), micro_probes, {0, 1}) == set()
    assert near_ties(micro_model, (ours, ours), micro_probes, ()) == set()
