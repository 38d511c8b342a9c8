"""Generation over layers whose caches have their own lengths: fed rightly, and equal to prefill."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.contract import Contract, LayerSite
from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import ImageTokens, Trace, encode_image, generate
from edgevlm.passes.tokens.keep_tokens import KeepTokens

WIDTH, WORDS, FLOOR_DB = 2, 10, 90.0


def contract(positions="original"):
    return Contract(
        family="script", image_height=1, image_width=1, grid=(1, 6), vision_tokens=6,
        vision_width=1, image_tokens=6, kept_image_tokens=4, prompt_capacity=4, kv_capacity=11,
        width=WIDTH, layers=3, kv_heads=1, head_dim=2, vocabulary=WORDS, image_positions=positions,
        sites=(LayerSite(layer=1, given=4, tokens=2), LayerSite(layer=2, given=2, tokens=0)),
        layer_tokens=(4, 2, 0),
    )  # fmt: skip


class Script:
    """Parts that say the given tokens; a cache row is (token, position); layer 1 keeps 1 and 3."""

    chosen = np.array([1, 3])

    def __init__(self, *says):
        self.says, self.fed = list(says), []

    def call(self, role, feeds):
        feeds = {name: np.array(value) for name, value in feeds.items()}
        if role == "embed":
            return {"text_embeds": np.stack([feeds["input_ids"], feeds["input_ids"] * 0 + 1], -1)}
        self.fed.append((role, feeds))
        rows = np.concatenate(
            [feeds["inputs_embeds"][..., :1], feeds["position_ids"][..., None]], -1
        ).astype(np.float32)
        out = {"logits": np.eye(WORDS, dtype=np.float32)[[self.says.pop(0)]]}
        for layer, kept in enumerate(([0, 1, 2, 3], self.chosen, [])):
            own = rows
            if role == "prefill":
                start = int(feeds["image_start"][0])
                image = rows[:, start : start + 4][:, np.array(kept, int)]
                own = np.concatenate([rows[:, :start], image, rows[:, start + 4 :]], 1)
            out |= {f"key_{layer}": own[None], f"value_{layer}": -own[None]}
        return out | ({"image_index_1": self.chosen} if role == "prefill" else {})


IMAGE = ImageTokens(np.arange(8, dtype=np.float32).reshape(1, 4, 2) + 50, np.array([0, 2, 3, 5]))


def say(parts, before=(1,), after=(2, 3), c=None, **options):
    return list(generate(c or contract(), parts, IMAGE, before, after, (9,), **options))


@pytest.mark.parametrize(("before", "after"), [((), (2, 3)), ((1,), (2,)), ((1, 4), (2, 3))])
def test_every_layer_is_fed_its_own_rows_under_its_own_mask(before, after):
    parts = Script(4, 5, 6, 9)
    assert say(parts, before, after) == [4, 5, 6]
    assert parts.fed[0][1]["image_start"].tolist() == [len(before)]
    for step, (role, feeds) in enumerate(parts.fed[1:]):
        assert role == "decode"
        said = [4, 5, 6][:step]
        for layer, image in enumerate(([50, 52, 54, 56], [52, 56], [])):
            mask = feeds["attention_mask" + (f"_{layer}" if layer else "")][0, 0, 0]
            cache = feeds[f"past_key_{layer}"][0, 0]
            assert len(mask) == len(cache) + 1 and mask[-1]
            assert cache[mask[:-1]][:, 0].tolist() == [*before, *image, *after, *said]
            assert np.array_equal(feeds[f"past_value_{layer}"][0, 0], -cache)
            # rows fill up from the front: no gap where tokens were dropped
            filled = len(before) + len(image) + len(after) + step
            assert mask[:-1].tolist() == [i < filled for i in range(len(cache))]


def test_positions_go_on_behind_all_image_tokens_in_every_layer():
    parts = Script(4, 5, 9)
    say(parts)
    assert parts.fed[0][1]["position_ids"][0, :7].tolist() == [0, 1, 3, 4, 6, 7, 8]
    assert [int(f["position_ids"][0, 0]) for _, f in parts.fed[1:]] == [9, 10]


def test_renumbered_positions_close_up():
    parts = Script(4, 5, 9)
    say(parts, c=contract("renumber"))
    assert parts.fed[0][1]["position_ids"][0, :7].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert [int(f["position_ids"][0, 0]) for _, f in parts.fed[1:]] == [7, 8]


def test_all_caches_are_full_at_the_same_word():
    parts = Script(*[4] * 30)
    said = say(parts, max_new=99)
    assert len(said) == 11 - 7 + 1
    last = parts.fed[-1][1]
    for layer in range(3):
        mask = last["attention_mask" + (f"_{layer}" if layer else "")][0, 0, 0]
        assert mask.sum() == len(mask) - 1 and not mask[-2]


@pytest.mark.parametrize("chosen", [(3, 1), (1, 1), (0, 4), (-1, 2), (0,), (0, 1, 2)], ids=str)
def test_a_choice_that_breaks_its_promise_stops_before_a_word_is_said(chosen):
    class Parts(Script):
        def call(self, role, feeds):
            out = super().call(role, feeds)
            return out | ({"image_index_1": np.array(chosen)} if role == "prefill" else {})

    with pytest.raises(JobFault) as caught:
        next(generate(contract(), Parts(4, 9), IMAGE, (1,), (2,), ()))
    assert caught.value.code == "EV208" and "decoder layer 1" in caught.value.what


def test_a_trace_knows_what_was_kept():
    trace = Trace()
    say(Script(4, 9), trace=trace)
    assert trace.choices["prefill/image_index_1"].tolist() == [1, 3]


SCHEDULES = {
    "one site": [("dart", "llm:1", 5)],
    "first layer": [("dart", "llm:0", 5)],
    "three sites": [("dart", "connector-out", 7), ("stride", "llm:1", 4), ("v2drop", "llm:2", 2)],
    "down to none": [("stride", "llm:1", 4), ("stride", "llm:2", 0)],
    "all parts": [("dart", "vision:1", 7), ("divprune", "vision-out", 6), ("dart", "llm:2", 2)],
}  # fmt: skip


@pytest.fixture(scope="module", params=SCHEDULES)
def pruned(request, make_micro):
    model = make_micro(layers=3, tower=2)
    for method, at, keep in SCHEDULES[request.param]:
        model = KeepTokens(keep=keep, method=method, at=at)(model).model
    return model, ReferenceParts(model.parts)


@pytest.mark.parametrize("before", [(), (1,), (1, 5)], ids=["row 0", "row 1", "row 2"])
def test_every_decode_step_equals_a_prefill_of_the_same_text(pruned, before):
    """Wherever the image begins, up to a prompt of full capacity."""
    model, parts = pruned
    shape = (1, 3, model.contract.image_height, model.contract.image_width)
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = encode_image(model.contract, parts, pixels)

    def run(after, limit):
        logits: list[np.ndarray] = []
        prompt = (model.contract, parts, image, before, after, ())
        return list(generate(*prompt, max_new=limit, on_logits=logits.append)), logits

    after = (4,)
    room = model.contract.prompt_capacity - len(before) - len(after)
    said, logits = run(after, room + 1)
    assert len(said) == room + 1 > 3
    for step in range(1, len(said)):
        forced = run((*after, *said[:step]), 1)[1][0]
        assert measure(forced, logits[step], f"step {step}").sqnr_db > FLOOR_DB
