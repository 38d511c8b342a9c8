"""Parts cut for an NPU: the pieces are the part, and none asks the NPU for what it lacks."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.pieces import call_pieces
from edgevlm.compiler.reference import observe
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import Asked
from edgevlm.runtimes.executorch.ethos.cut import NEVER, cut, runs_of, without_padding


@pytest.fixture(scope="module")
def made(make_micro):
    """A miniature behind the passes of the pipeline, and what its parts are fed."""

    def make(reduction=None):
        source = make_micro(layers=1, width=64, heads=2, tower=1)
        recipe = compose("ethos-u85-256", "ethos", Flags(reduction=reduction), source)
        model = apply_unchecked(source, make_passes(recipe), inputs_of(source))
        return model, observe(model, inputs_of(model))

    return make


def ops(pieces, runs):
    return {n.op_type for p in pieces if p.runs == runs for n in p.part.graph}


def test_pieces_are_the_parts(made, ort):
    model, seen = made()
    names = {}
    for role, part in model.parts.items():
        pieces = cut(role, part)
        names[role] = [(piece.name, piece.runs) for piece in pieces]
        for feeds in seen.fed(role)[:2]:
            runs = runs_of(pieces, [feeds])
            found = {
                port.name: value
                for piece in pieces
                for port, value in zip(piece.outputs, runs[piece.name].outputs[0], strict=True)
            }
            for name, value in ort(part, **feeds).items():
                np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    assert names["vision"] == [("vision_front", "host"), ("vision", "device")]
    assert names["embed"] == [("embed", "host")]
    assert names["prefill"] == [("prefill_front", "host"), ("prefill", "device")]
    assert names["decode"] == [("decode_front", "host"), ("decode", "device")]


def test_the_npu_gets_neither_whole_numbers_nor_what_chooses(made):
    model, _ = made()
    for role, part in model.parts.items():
        for piece in cut(role, part):
            if piece.runs == "device":
                assert {port.dtype for port in piece.inputs} == {"FLOAT"}, piece.name
                kinds = {n.op_type for n in piece.part.graph}
                assert not kinds & {"Gather", "TopK", "Cos", "Sin", "Conv", "Attention"}, kinds
                assert all(len(v.shape) <= 4 for n in piece.part.graph for v in n.outputs)


def test_tokens_are_chosen_on_the_host(made):
    model, _ = made(Asked(("4",), "dart", {}, ()))
    pieces = {role: cut(role, part) for role, part in model.parts.items()}
    chosen = next(some for some in pieces.values() if "TopK" in ops(some, "host"))
    assert "TopK" not in ops(chosen, "device") and "Gather" not in ops(chosen, "device")


def test_what_must_not_be_looked_at_leaves_room_for_scores(made):
    """A constant of -32768 would be the range of all scores."""
    model, _ = made()
    for role in ("prefill", "decode"):
        least = min(
            float(np.min(v.const_value.numpy()))
            for piece in cut(role, model.parts[role])
            for v in piece.part.graph.initializers.values()
            if v.const_value is not None and v.dtype.name == "FLOAT"
        )
        assert least >= NEVER


def test_rows_behind_the_last_token_are_copies_of_it():
    x = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    feeds = {"inputs_embeds": x, "last_index": np.array([1])}
    rows = without_padding(feeds)["inputs_embeds"][0]
    np.testing.assert_array_equal(rows, [x[0, 0], x[0, 1], x[0, 1], x[0, 1]])
    assert feeds["inputs_embeds"] is x and x[0, 3, 0] == 9
    assert without_padding({"inputs_embeds": x})["inputs_embeds"] is x


def test_values_go_from_piece_to_piece_by_name(made):
    model, seen = made()
    pieces = cut("prefill", model.parts["prefill"])
    asked = []
    feeds = seen.fed("prefill")[0]
    runs = runs_of(pieces, [feeds])

    def call(piece, given):
        asked.append((piece.name, sorted(given)))
        made = zip(piece.outputs, runs[piece.name].outputs[0], strict=True)
        return {port.name: value for port, value in made}

    call_pieces(pieces, call, feeds)
    assert [name for name, _ in asked] == ["prefill_front", "prefill"]
    assert asked[0][1] == ["last_index", "position_ids"]
