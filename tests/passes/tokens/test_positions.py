"""Position policies: renumber closes up; run ends stand for what was dropped (card L4)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import Trace, encode_image, generate
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.method import Choice, Method
from edgevlm.passes.tokens.positions import PAD_SHARE

N, KEEP = 20, 8
PADS = int(KEEP * PAD_SHARE)


class Given(Method):
    """Keeps the places it is told to, as many as the policy asks for."""

    name, summary, sites = "given", "for this test", ("connector-out", "llm")

    def __init__(self, places):
        super().__init__()
        self.places = places

    def choose(self, view):
        assert view.keep == len(self.places)
        return Choice(view.build("Identity", view.build.const(sorted(self.places))))


def runs(kept):
    """Maximal runs of dropped places in raster order, by plain counting."""
    found, run = [], []
    for place in range(N):
        if place in kept:
            if run:
                found.append(run)
            run = []
        else:
            run.append(place)
    return [*found, run] if run else found


def padded(put_in, model, kept, at="connector-out", seed=0):
    placed = put_in(model, Given(kept), at, KEEP, position="run-end-pad", spy=True)
    return placed, placed.run(placed.rows(seed))


@settings(max_examples=60, deadline=None)
@given(kept=st.sets(st.integers(0, N - 1), min_size=KEEP - PADS, max_size=KEEP - PADS))
def test_l4_kept_tokens_run_ends_and_fillers_make_exactly_the_budget(put_in, small, kept):
    placed, out = padded(put_in, small(), kept)
    index, content = out[placed.index], out["image_embeds"][0]
    tokens = whole(small(), placed)
    dropped = runs(kept)
    assert len(dropped) <= min(len(kept) + 1, N - len(kept))  # U <= min(K + 1, N - K)
    assert len(index) == KEEP and (np.diff(index) > 0).all()
    ends = [run[-1] for run in dropped]
    shown = [i for i in index.tolist() if i not in kept]
    assert kept <= set(index.tolist()) and len(shown) == PADS
    # exact where there are no more runs than slots; else the first ends, in raster order
    assert [i for i in shown if i in ends] == ends[:PADS] or set(ends) <= set(shown)
    for slot, place in enumerate(index.tolist()):
        run = next((r for r in dropped if r[-1] == place), None)
        want = tokens[place] if run is None else tokens[run].mean(0)
        np.testing.assert_allclose(content[slot], want, rtol=1e-5, atol=1e-5)


def whole(model, placed, seed=0):
    """All tokens of the unpruned connector for the same features, float64."""
    parts = ReferenceParts(model.parts)
    return parts.call("connector", placed.feeds(placed.rows(seed)))["image_embeds"][0].astype(float)


def test_l4_a_dropped_token_is_in_exactly_one_run_and_the_lengths_add_up():
    rng = np.random.default_rng(0)
    for _ in range(500):
        kept = set(rng.choice(N, rng.integers(1, N), replace=False).tolist())
        dropped = runs(kept)
        assert sorted(i for run in dropped for i in run) == sorted(set(range(N)) - kept)
        assert len(dropped) <= min(len(kept) + 1, N - len(kept))


def test_fillers_are_the_next_tokens_as_they_are(put_in, small):
    """All kept tokens at the end: one run, one end; the other slot is its first token."""
    kept = set(range(N - KEEP + PADS, N))
    placed, out = padded(put_in, small(), kept)
    index, tokens = out[placed.index].tolist(), whole(small(), placed)
    run = list(range(N - KEEP + PADS))
    assert index == [0, run[-1], *sorted(kept)]
    np.testing.assert_allclose(out["image_embeds"][0][0], tokens[0], rtol=1e-6)
    np.testing.assert_allclose(out["image_embeds"][0][1], tokens[run].mean(0), rtol=1e-5, atol=1e-6)


def test_more_runs_than_slots_lose_the_last_ends_and_no_kept_token(put_in, small):
    kept = set(range(1, 2 * (KEEP - PADS), 2))  # every other one: as many runs as there can be
    placed, out = padded(put_in, small(), kept)
    assert len(runs(kept)) > PADS
    assert [i for i in out[placed.index].tolist() if i not in kept] == [0, 2]


def test_positions_of_run_ends_are_where_the_run_ended(make_micro):
    """The contract says nothing new: an index is a place, and a place is a position."""
    model = KeepTokens(keep=4, method="dart", position="run-end-pad")(make_micro()).model
    assert model.contract.image_positions == "original"


def test_a_budget_too_small_for_an_end_has_none(put_in, small):
    plain = put_in(small(), "dart", "connector-out", 3)
    padded = put_in(small(), "dart", "connector-out", 3, position="run-end-pad")
    for seed in range(3):
        a, b = (p.run(p.rows(seed)) for p in (plain, padded))
        assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_the_record_tells_how_the_slots_are_shared(small):
    step = KeepTokens(keep=12, method="dart", position="run-end-pad")
    notes = [note.why for note in step(small()).notes]
    assert any("9 tokens by dart, up to 3 run ends" in why for why in notes)


def test_run_ends_in_front_of_a_decoder_layer(put_in, small):
    """The stream's rows are what is averaged there: seen in the values that layer 2 caches."""
    kept = {0, 3, 4, 9, 12, 19}
    placed, out = padded(put_in, small(), kept, at="llm:2")
    index = out[placed.index].tolist()
    assert index == sorted(kept | {2, 8})  # the first two runs, 1-2 and 5-8, end there
    rows = out["spy/tokens"].astype(float)
    rows[2], rows[8] = rows[1:3].mean(0), rows[5:9].mean(0)
    rows = rows[index]
    normed = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + 1e-6)
    weight = small().parts["prefill"].graph.initializers["wv_2"].const_value.numpy()
    want = (normed @ weight).reshape(KEEP, 2, 4).transpose(1, 0, 2)
    got = out["value_2"][0, :, 2 : 2 + KEEP]  # two words in front
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at", ["connector-out", "vision-out", "vision:1"])
def test_renumbered_tokens_and_words_close_up(make_micro, micro_probes, at):
    model = make_micro(tower=2)
    pruned = KeepTokens(keep=4, method="dart", at=at, position="renumber")(model).model
    assert pruned.contract.image_positions == "renumber"
    parts, trace = ReferenceParts(pruned.parts), Trace(feeds={})
    image = encode_image(pruned.contract, parts, micro_probes[0].pixel_values, trace)
    prompt = (pruned.contract, parts, image, (1,), (4, 5), ())
    assert len(list(generate(*prompt, max_new=3, trace=trace))) == 3
    positions = trace.feeds["prefill"]["position_ids"][0]
    assert positions.tolist() == list(range(pruned.contract.prefill_length))
    assert trace.feeds["decode"]["position_ids"].tolist() == [[1 + 4 + 2]]
    assert image.index.tolist() == sorted(set(image.index.tolist())) and len(image.index) == 4


def test_nothing_is_renumbered_inside_the_language_model(small):
    """Keys of the layers in front are rotated by their original positions already."""
    with pytest.raises(UsageFault) as caught:
        KeepTokens(keep=4, method="dart", at="llm:1", position="renumber")(small())
    assert caught.value.code == "EV230" and "rotated" in caught.value.why
