"""The token loop against scripted parts: what is fed, where it stops, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.generate import ImageTokens, Trace, classify, encode_image, generate

WIDTH, WORDS = 2, 10


def contract(kept=3, image=5, prompt=4, answer=3):
    return Contract(
        family="script", image_height=1, image_width=1, grid=(1, image), vision_tokens=image,
        vision_width=1, image_tokens=image, kept_image_tokens=kept, prompt_capacity=prompt,
        kv_capacity=kept + prompt + answer, width=WIDTH, layers=1, kv_heads=1, head_dim=2,
        vocabulary=WORDS,
    )  # fmt: skip


class Script:
    """Parts that say the given tokens one after another and write down what they were fed.

    The embedding of a token is (token, 1); a cache row is (token, position) of its input.
    """

    def __init__(self, *says):
        self.says, self.fed = list(says), []

    def call(self, role, feeds):
        feeds = {name: np.array(value) for name, value in feeds.items()}
        if role == "embed":
            return {"text_embeds": np.stack([feeds["input_ids"], feeds["input_ids"] * 0 + 1], -1)}
        self.fed.append((role, feeds))
        rows = np.concatenate(
            [feeds["inputs_embeds"][..., :1], feeds["position_ids"][..., None]], -1
        )
        logits = np.eye(WORDS, dtype=np.float32)[[self.says.pop(0)]]
        return {"logits": logits, "key_0": rows[None].astype(np.float32), "value_0": -rows[None]}


IMAGE = ImageTokens(np.full((1, 3, WIDTH), 100.0, np.float32), np.array([0, 2, 3]))


def say(parts, before=(1,), after=(2, 3), eos=(9,), c=None, image=IMAGE, **options):
    return list(generate(c or contract(), parts, image, before, after, eos, **options))


def test_it_stops_at_an_end_token_and_does_not_say_it():
    parts = Script(4, 5, 9, 6)
    assert say(parts) == [4, 5]
    assert [role for role, _ in parts.fed] == ["prefill", "decode", "decode"]


def test_any_of_several_end_tokens_stops_it():
    assert say(Script(4, 8, 6), eos=(9, 8)) == [4]
    assert say(Script(9), eos=(9,)) == []


@pytest.mark.parametrize(("limit", "runs"), [(0, 0), (-1, 0), (1, 1), (2, 2), (3, 3)])
def test_it_stops_at_max_new_and_runs_nothing_for_nothing(limit, runs):
    parts = Script(4, 5, 6, 7, 8)
    assert say(parts, max_new=limit) == [4, 5, 6][: max(0, limit)]
    assert len(parts.fed) == runs


def test_it_stops_when_the_cache_is_full():
    parts = Script(*[4] * 20)
    c = contract()
    said = say(parts, c=c, max_new=99)
    rows = 1 + 3 + 2
    assert len(said) == c.kv_capacity - rows + 1  # the last one is said and never cached
    mask = parts.fed[-1][1]["attention_mask"][0, 0, 0]
    assert mask.sum() == c.kv_capacity  # all rows but the one it writes, and the new token
    assert not mask[c.kv_capacity - 1]


def test_a_prompt_of_full_capacity_is_taken_and_one_more_token_is_not():
    assert say(Script(9), before=(1, 2), after=(3, 4)) == []
    parts = Script(9)
    with pytest.raises(UsageFault) as caught:
        say(parts, before=(1, 2), after=(3, 4, 5))
    assert caught.value.code == "EV120" and not parts.fed
    assert "5 text tokens" in caught.value.what and "at most 4" in caught.value.why


def test_the_prompt_is_laid_out_with_original_positions():
    parts = Script(9)
    say(parts, before=(1,), after=(2, 3))
    feeds = parts.fed[0][1]
    assert feeds["inputs_embeds"][0, :, 0].tolist() == [1, 100, 100, 100, 2, 3, 0]
    assert feeds["position_ids"][0, :6].tolist() == [0, 1, 3, 4, 6, 7]
    assert feeds["last_index"].tolist() == [5]


@pytest.mark.parametrize(
    ("before", "after"), [((1,), (2, 3)), ((), (2,)), ((1, 2), ()), ((), ())], ids=str
)
def test_the_answer_continues_behind_all_image_tokens_not_behind_the_kept_ones(before, after):
    """Also where the image ends the prompt and its last token was dropped."""
    parts = Script(4, 5, 6, 9)
    say(parts, before=before, after=after)
    positions = [int(feeds["position_ids"][0, 0]) for role, feeds in parts.fed if role == "decode"]
    first = len(before) + 5 + len(after)
    assert positions == [first, first + 1, first + 2]


def test_decode_sees_every_row_once_and_no_padding():
    parts = Script(4, 5, 6, 9)
    say(parts)
    for step, (role, feeds) in enumerate(parts.fed[1:]):
        assert role == "decode"
        mask = feeds["attention_mask"][0, 0, 0]
        filled = 6 + step
        assert mask.tolist() == [True] * filled + [False] * (len(mask) - 1 - filled) + [True]
        seen = feeds["past_key_0"][0, 0][mask[:-1]]
        said = [4, 5, 6][:step]
        assert seen[:, 0].tolist() == [1, 100, 100, 100, 2, 3, *said]
        assert seen[:, 1].tolist() == [0, 1, 3, 4, 6, 7, *range(8, 8 + step)]
        assert np.array_equal(feeds["past_value_0"][0, 0][mask[:-1]], -seen)


@given(st.lists(st.integers(0, 8), max_size=4), st.integers(0, 4), st.integers(1, 6))
def test_any_prompt_and_any_budget(text, split, answer):
    before, after = text[:split], text[split:]
    c = contract(answer=answer)
    parts = Script(*[3] * 30)
    said = say(parts, before=before, after=after, c=c)
    assert len(said) == c.kv_capacity - 3 - len(text) + 1
    assert len(parts.fed) == len(said)


def test_on_logits_sees_what_was_decided_on_the_end_token_included():
    seen = []
    assert say(Script(4, 9), on_logits=seen.append) == [4]
    assert [int(x.argmax()) for x in seen] == [4, 9]


def test_a_trace_times_every_stage_and_keeps_the_first_feeds():
    trace = Trace(feeds={})
    say(Script(4, 5, 9), trace=trace)
    assert {k: len(v) for k, v in trace.seconds.items()} == {"prefill": 1, "decode": 2}
    assert all(t > 0 for times in trace.seconds.values() for t in times)
    assert trace.feeds["decode"]["position_ids"].tolist() == [[8]]
    assert trace.feeds["decode"]["attention_mask"].sum() == 7  # a copy: later steps do not show


def test_encode_image_tells_every_place_when_nothing_was_dropped():
    class Parts:
        def call(self, role, feeds):
            name = {"vision": "image_features", "connector": "image_embeds"}[role]
            return {name: np.full((1, 5, WIDTH), sum(v.sum() for v in feeds.values()))}

    trace = Trace()
    image = encode_image(contract(kept=5), Parts(), np.ones((1, 3, 1, 1), np.float32), trace)
    assert image.index.tolist() == [0, 1, 2, 3, 4] and image.embeds[0, 0, 0] == 30
    assert set(trace.seconds) == {"vision", "connector"}


def test_classify_returns_the_logits_of_the_vision_part():
    class Parts:
        def call(self, role, feeds):
            return {"logits": feeds["pixel_values"] + 1} if role == "vision" else {}

    assert classify(Parts(), np.zeros((1, 2))).tolist() == [[1, 1]]
