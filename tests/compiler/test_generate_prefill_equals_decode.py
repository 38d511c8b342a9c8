"""Decoding with a cache says what one prefill over prompt and answer would say, logit for logit."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import encode_image, generate
from edgevlm.passes.tokens.keep_tokens import KeepTokens

FLOOR_DB = 90.0  # float32 rounding between two orders of the same sums


@pytest.fixture(scope="module", params=["tiny", "tiny pruned", "micro"])
def case(request, tiny_model, tiny_probes, micro_model, micro_probes):
    model, probes = tiny_model, tiny_probes[:4]
    if request.param == "micro":
        model, probes = micro_model, micro_probes
    if "pruned" in request.param:
        model = KeepTokens(keep=16)(model).model
    return model, ReferenceParts(model.parts), probes


def run(model, parts, probe, after, eos=(), limit=None):
    image = encode_image(model.contract, parts, probe.pixel_values)
    logits = []
    said = list(
        generate(model.contract, parts, image, probe.before, after, eos,
                 max_new=limit, on_logits=logits.append)
    )  # fmt: skip
    return said, logits


def test_every_decode_step_equals_a_prefill_of_the_same_text(case):
    model, parts, probes = case
    for probe in probes:
        room = model.contract.prompt_capacity - len(probe.before) - len(probe.after)
        said, logits = run(model, parts, probe, probe.after, limit=room + 1)
        assert len(said) == room + 1 > 1
        for step in range(1, len(said)):
            forced = run(model, parts, probe, (*probe.after, *said[:step]), limit=1)[1][0]
            assert forced.argmax() == logits[step].argmax() == said[step]
            assert measure(forced, logits[step], f"step {step}").sqnr_db > FLOOR_DB


def test_the_prompt_capacity_changes_nothing(case):
    """Right padding is harmless: exactly as many rows as the prompt has give the same logits."""
    model, parts, probes = case
    for probe in probes[:2]:
        length = len(probe.before) + len(probe.after)
        assert length < model.contract.prompt_capacity
        exact = model.contract.model_copy(update={"prompt_capacity": length})
        resized = {}
        for role, rows in (("embed", length), ("prefill", exact.prefill_length)):
            part = model.parts[role].clone()
            axes = analyse(part.graph, model.contract.signature(role))
            resize(axes, axes.of(part.graph.inputs[0])[1], rows)
            resized[role] = part
        tight = model.with_parts(exact, **resized)
        a = run(model, parts, probe, probe.after, limit=6)
        b = run(tight, ReferenceParts(tight.parts), probe, probe.after, limit=6)
        assert a[0] == b[0]
        for padded, plain in zip(a[1], b[1], strict=True):
            assert measure(plain, padded, "logits").sqnr_db > FLOOR_DB


def test_what_lies_in_the_padding_does_not_matter(case):
    """Not only zeros: any text behind the last token leaves its logits bit for bit."""
    model, parts, probes = case
    probe, c = probes[0], model.contract
    rng = np.random.default_rng(0)
    length = len(probe.before) + c.kept_image_tokens + len(probe.after)
    feeds = {
        "inputs_embeds": rng.normal(size=(1, c.prefill_length, c.width)).astype(np.float32),
        "position_ids": np.arange(c.prefill_length)[None],
        "last_index": np.array([length - 1]),
    }
    first = parts.call("prefill", feeds)
    feeds["inputs_embeds"][:, length:] = 1e3
    feeds["position_ids"][:, length:] = 7
    second = parts.call("prefill", feeds)
    assert np.array_equal(first["logits"], second["logits"])
    assert np.array_equal(first["key_0"][:, :, :length], second["key_0"][:, :, :length])
    assert not np.array_equal(first["key_0"][:, :, length:], second["key_0"][:, :, length:])
