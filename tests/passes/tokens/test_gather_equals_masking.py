"""T1: dropping tokens is masking their keys, bit for bit up to rounding, at original positions.

The unpruned prefill gets an additive mask on every Attention: -inf on the columns of the dropped
tokens (a dropped token still sees itself, so that its unused row stays finite). Its logits, and the
keys and values of the rows that stayed, must be those of the pruned prefill; the same for decode.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import ReferenceParts, open_session
from edgevlm.compiler.generate import ImageTokens, _prompt, encode_image, generate
from edgevlm.passes.tokens.keep_tokens import KeepTokens

METHODS = ("dart", "stride", "divprune", "random")  # all others: test_kit_masking.py
FLOOR_DB = 100.0  # float32 rounding of sums of different length


@pytest.fixture(scope="module", params=["tiny", "micro"])
def whole(request, tiny_model, tiny_probes, micro_model, micro_probes):
    tiny = request.param == "tiny"
    return (tiny_model, tiny_probes[:4], 16) if tiny else (micro_model, micro_probes, 4)


@pytest.fixture(scope="module", params=METHODS)
def case(request, whole):
    """The model, the pruned one, the masked prefill and the probes."""
    model, probes, keep = whole
    pruned = KeepTokens(keep=keep, method=request.param)(model).model
    return model, pruned, masked_prefill(model), probes


def masked_prefill(model):
    """prefill with one more input: an additive mask [rows, rows] for every Attention."""
    part = model.parts["prefill"].clone()
    rows = model.contract.prefill_length
    mask = ir.val("mask", ir.DataType.FLOAT, [rows, rows])
    part.graph.inputs.append(mask)
    attentions = [n for n in part.graph if n.op_type == "Attention"]
    for node in attentions:
        assert len(node.inputs) == 3 and node.attributes["is_causal"].as_int() == 1
        node.resize_inputs(4)
        node.replace_input_with(3, mask)
    assert len(attentions) == model.contract.layers
    return open_session(part), [str(v.name) for v in part.graph.outputs]


def columns_off(rows, dropped):
    mask = np.zeros((rows, rows), np.float32)
    mask[:, dropped] = -np.inf
    np.fill_diagonal(mask, 0)
    return mask


def run_masked(masked, feeds, dropped):
    session, names = masked
    rows = feeds["inputs_embeds"].shape[1]
    return dict(
        zip(names, session.run(names, feeds | {"mask": columns_off(rows, dropped)}), strict=True)
    )


def both(case, probe, renumber=False):
    """(outputs of the pruned prefill, of the masked one, rows that stayed) for one probe."""
    model, pruned, masked, _ = case
    parts, short = ReferenceParts(model.parts), ReferenceParts(pruned.parts)
    image = encode_image(model.contract, parts, probe.pixel_values)
    kept = encode_image(pruned.contract, short, probe.pixel_values)
    feeds = _prompt(model.contract, parts, image, probe.before, probe.after)
    fewer = _prompt(pruned.contract, short, kept, probe.before, probe.after)
    if renumber:
        fewer["position_ids"] = np.arange(fewer["position_ids"].size)[None]
    first, count = len(probe.before), model.contract.image_tokens
    dropped = first + np.setdiff1d(np.arange(count), kept.index)
    stayed = np.setdiff1d(np.arange(model.contract.prefill_length), dropped)
    return short.call("prefill", fewer), run_masked(masked, feeds, dropped), stayed


def worst_db(got, want, stayed):
    levels = [measure(want["logits"], got["logits"], "logits").sqnr_db]
    levels += [
        measure(want[name][:, :, stayed], got[name], name).sqnr_db
        for name in got
        if name != "logits"
    ]
    return min(levels)


def test_pruned_prefill_is_the_masked_one(case, record_property):
    levels = [worst_db(*both(case, probe)) for probe in case[3]]
    record_property("T1 worst dB", min(levels))
    assert min(levels) > FLOOR_DB


def test_renumbered_positions_are_not(case):
    """The test can fail: positions 0..K-1 for the kept tokens are plainly another function."""
    for probe in case[3]:
        assert worst_db(*both(case, probe, renumber=True)) < 40


def test_without_the_mask_the_dropped_tokens_are_felt(case):
    model, _, masked, probes = case
    got, _, stayed = both(case, probes[0])
    parts = ReferenceParts(model.parts)
    image = encode_image(model.contract, parts, probes[0].pixel_values)
    feeds = _prompt(model.contract, parts, image, probes[0].before, probes[0].after)
    assert worst_db(got, run_masked(masked, feeds, []), stayed) < 60


class MaskingParts:
    """The unpruned model with the dropped rows masked out of prefill and of every decode step."""

    def __init__(self, case, dropped):
        self.parts, self.masked, self.dropped = ReferenceParts(case[0].parts), case[2], dropped

    def call(self, role, feeds):
        if role == "prefill":
            return run_masked(self.masked, feeds, self.dropped)
        if role == "decode":
            mask = feeds["attention_mask"].copy()
            mask[..., self.dropped] = False
            feeds = {**feeds, "attention_mask": mask}
        return self.parts.call(role, feeds)


def test_whole_answers_are_the_same_token_for_token_and_logit_for_logit(case):
    model, pruned, _, probes = case
    for probe in probes:
        short = ReferenceParts(pruned.parts)
        kept = encode_image(pruned.contract, short, probe.pixel_values)
        image = encode_image(model.contract, ReferenceParts(model.parts), probe.pixel_values)
        dropped = len(probe.before) + np.setdiff1d(
            np.arange(model.contract.image_tokens), kept.index
        )
        said, heard = [], []
        for c, parts, tokens, log in (
            (model.contract, MaskingParts(case, dropped), image, said),
            (pruned.contract, short, ImageTokens(kept.embeds, kept.index), heard),
        ):
            prompt = (c, parts, tokens, probe.before, probe.after, ())
            log.append(list(generate(*prompt, max_new=6, on_logits=log.append)))
        assert said.pop() == heard.pop() and len(said) == len(heard) > 3
        for step, (a, b) in enumerate(zip(said, heard, strict=True)):
            assert measure(a, b, f"step {step}").sqnr_db > FLOOR_DB
