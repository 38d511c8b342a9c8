"""When another answer is as right as the host's, and when not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from micro.jetson import change_plan, draft_bundle

from edgevlm.compiler.near_ties import _tied
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.runtimes.tensorrt.on_device.answers import near_tie

LOGITS = arrays(np.float32, 6, elements=st.floats(-8, 8, width=16), unique=True)


@given(LOGITS, LOGITS)
def test_of_the_first_token_it_says_what_the_host_says(host, ours):
    """compiler/near_ties.py, which has the logits of both at every step."""
    ids = [int(ours.argmax())], [int(host.argmax())]
    if ids[0] != ids[1]:
        assert bool(near_tie(*ids, [ours], host, ())) == _tied([host], [ours])


FIRST = np.array([5.0, 1, 0, 0], np.float32)
NEAR = FIRST + np.array([0, 0.05, 0, 0], np.float32)  # 0.05 from the host
SECOND = np.array([0, 2.0, 1.95, 0], np.float32)  # 1 leads 2 by 0.05, and 0 by 2


@pytest.mark.parametrize(
    "ids, wanted, eos, tied",
    [
        ([0, 1], [0, 2], [], True),
        ([0, 1], [0, 0], [], False),
        ([0, 1], [0], [2], True),  # the host's answer ends there
        ([0, 1], [0], [3], False),
        ([0, 1], [0], [], False),
        ([0], [0, 2], [1], True),  # ours ends there
        ([0], [0, 3], [1], False),
        ([0, 1], [0, 9], [], False),  # a token that there is not
        ([0, 1, 1], [0, 1, 2], [], False),  # nothing is known of that step
    ],
)
def test_of_later_tokens_the_lead_of_ours_tells(ids, wanted, eos, tied):
    assert bool(near_tie(ids, wanted, [NEAR, SECOND], FIRST, eos)) is tied


@pytest.mark.parametrize("first", [None, FIRST[:3], -FIRST, FIRST * 0])
def test_without_logits_that_are_alike_nothing_is_a_tie(first):
    assert near_tie([0, 1], [0, 2], [NEAR, SECOND], first, ()) == ""


def test_logits_that_are_not_finite_are_no_tie():
    assert near_tie([0, 1], [0, 2], [NEAR * np.nan, SECOND], FIRST, ()) == ""


def edit(bundle, change):
    path = bundle / "tensorrt" / "goldens.npz"
    with np.load(path) as told:
        tensors = dict(told)
    change(tensors)
    np.savez(path, **tensors)
    (bundle / "SHA256SUMS").unlink(missing_ok=True)


def test_a_near_tie_is_noted_and_no_failure(bundle, main, tensorrt):
    """The host found the runner-up to be the first, by a hair, in logits that are alike."""

    def change(tensors):
        logits = tensors["1/logits"][0]
        second, first = logits.argsort()[-2:]
        assert logits[first] - logits[second] < 0.3 * np.linalg.norm(logits)  # 10 dB
        logits[second] = logits[first] + 1e-3
        change_plan(bundle, lambda plan: plan["goldens"][1].update(token_ids=[int(second)]))

    edit(bundle, change)
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json")
    assert ran.status == 0, ran.err
    row = ran.out["answers"][1]
    assert row["ok"] and row["token_ids"] != row["wanted"] and "all but equal" in row["note"]
    assert any(note.startswith("golden 1: token 0") for note in ran.out["notes"])
    assert "2 of 3 goldens answered alike" in main("run", "--bundle", bundle, "--runs", 1).out


def test_other_image_tokens_excuse_an_answer_only_if_most_are_the_same(
    tiny_model, tiny_probes, tmp_path, main, tensorrt
):
    model = apply_unchecked(tiny_model, [KeepTokens(keep=16, method="stride", at="connector-out")])
    bundle = draft_bundle(tmp_path / "pruned", model, tiny_probes, count=2)
    change_plan(bundle, lambda plan: plan["goldens"][1]["token_ids"].append(3))
    call = ("run", "--bundle", bundle, "--runs", 1, "--json")
    assert main(*call).status == 1
    edit(bundle, lambda tensors: kept_otherwise(tensors, 1))
    ran = main(*call)
    assert ran.status == 0 and "other image tokens were kept" in ran.out["answers"][1]["note"]
    edit(bundle, lambda tensors: kept_otherwise(tensors, 12))
    assert main(*call).status == 1


def kept_otherwise(tensors, count):
    """As if the host had kept others of so many of its image tokens."""
    name = "1/choice/connector/image_index"
    kept, free = tensors[name], np.setdiff1d(np.arange(64), tensors[name])
    tensors[name] = np.sort(np.concatenate([kept[count:], free[:count]]))


def test_an_answer_longer_than_the_host_asked_for_is_cut(bundle, main, tensorrt):
    """The host's answers end after so many tokens, whatever would come then."""

    def cut(plan):
        plan["max_answer"] = 1
        for golden in plan["goldens"]:
            del golden["token_ids"][1:]

    change_plan(bundle, cut)
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json")
    assert ran.status == 0 and [len(a["token_ids"]) for a in ran.out["answers"]] == [1] * 3
