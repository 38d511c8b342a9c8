"""Inputs to time a part on: zeros, open masks, and a prompt that ends in its last row."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.commands.predict_host import zeros_of
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.still import still_feeds
from edgevlm.passes.tokens.keep_tokens import KeepTokens


def test_by_hand():
    feeds = still_feeds(
        [
            ("inputs_embeds", np.float32, [1, 9, 4]),
            ("last_index", np.int64, [1]),
            ("attention_mask", np.bool_, [1, 1, 1, 3]),
            ("past_key_0", np.int8, [1, 2, 3, 4]),
        ]
    )
    assert feeds["last_index"].tolist() == [8] and feeds["attention_mask"].all()
    assert not feeds["inputs_embeds"].any() and feeds["past_key_0"].dtype == np.int8


@pytest.mark.parametrize("at", ["connector-out", "llm:1"])
def test_every_part_of_a_pruned_model_runs_on_them(make_micro, at):
    model = KeepTokens(keep=1, at=at)(make_micro(layers=3)).model
    parts = ReferenceParts(model.parts)
    for role in model.contract.roles:
        assert parts.call(role, zeros_of(model.contract, role))


def test_a_prompt_that_ended_in_its_first_row_would_not_run(make_micro):
    model = KeepTokens(keep=1, at="llm:1")(make_micro(layers=3)).model
    feeds = zeros_of(model.contract, "prefill") | {"last_index": np.array([0])}
    with pytest.raises(JobFault, match="out of data bounds"):
        ReferenceParts(model.parts).call("prefill", feeds)
